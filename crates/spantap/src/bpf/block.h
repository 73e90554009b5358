/* Block I/O, from its submission by a thread in a span to its completion wherever that is. A request into which others
 * were merged is that of the first. */
#pragma once

/* linux/blk_types.h */
#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
#define REQ_OP_FLUSH 2

struct submitted {
	struct kernel_span span;
	struct block block;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 14);
	__type(key, u64);
	__type(value, struct submitted);
} requests SEC(".maps");

SEC("tp_btf/block_io_start")
int BPF_PROG(block_io_start, struct request *request)
{
	struct thread *thread = in_span(bpf_get_current_task_btf());
	struct submitted submitted = {};
	u64 key = (u64)request;
	struct gendisk *disk;
	u32 operation;

	/* Another was there before. */
	if (!bpf_map_delete_elem(&requests, &key))
		lose(LOST_REQUEST_ENDS);
	if (!thread)
		return 0;
	/* Without data it is a flush, whatever it is called. */
	operation = request->__data_len ? request->cmd_flags & REQ_OP_MASK : REQ_OP_FLUSH;
	submitted.span.who = *innermost(thread);
	fill_whose(&submitted.span.whose);
	submitted.span.start = bpf_ktime_get_ns();
	submitted.span.what = operation == REQ_OP_READ	  ? BLOCK_READ
			      : operation == REQ_OP_WRITE ? BLOCK_WRITE
							  : BLOCK_OTHER;
	submitted.span.number = submitted.span.what == BLOCK_OTHER ? operation : 0;
	disk = BPF_CORE_READ(request, q, disk);
	submitted.block.device = (u32)BPF_CORE_READ(disk, major) << 20 | BPF_CORE_READ(disk, first_minor);
	BPF_CORE_READ_STR_INTO(&submitted.block.disk, disk, disk_name);
	if (bpf_map_update_elem(&requests, &key, &submitted, BPF_ANY))
		lose(LOST_NO_REQUEST);
	return 0;
}

/* What it was to do, another does. */
SEC("tp_btf/block_rq_merge")
int BPF_PROG(block_rq_merge, struct request *request)
{
	u64 key = (u64)request;

	bpf_map_delete_elem(&requests, &key);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_rq_complete, struct request *request, int error, unsigned int bytes)
{
	u64 key = (u64)request;
	struct submitted *submitted = bpf_map_lookup_elem(&requests, &key);
	struct record_kernel *record;

	if (!submitted)
		return 0;
	submitted->block.bytes += bytes;
	submitted->block.error = error;
	/* What is left of it comes later. */
	if (!error && bytes < request->__data_len)
		return 0;
	submitted->span.end = bpf_ktime_get_ns();
	record = begin_or_add(&submitted->span);
	if (record) {
		record->block = submitted->block;
		submit(record);
	}
	bpf_map_delete_elem(&requests, &key);
	return 0;
}
