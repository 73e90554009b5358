/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Block I/O, from its submission by a thread in a span to its completion in any context. A merged request belongs to
 * the span that submitted the first part. */
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

	/* The end of an earlier request at this address was missed. */
	if (!bpf_map_delete_elem(&requests, &key))
		count_loss(LOST_REQUEST_ENDS);
	if (!thread)
		return 0;
	/* A request without data is a flush, whatever its operation. */
	operation = request->__data_len ? request->cmd_flags & REQ_OP_MASK : REQ_OP_FLUSH;
	submitted.span.ids = *innermost(thread);
	fill_current_owner(&submitted.span.owner);
	submitted.span.start = bpf_ktime_get_ns();
	submitted.span.kind = operation == REQ_OP_READ	  ? BLOCK_READ
			      : operation == REQ_OP_WRITE ? BLOCK_WRITE
							  : BLOCK_OTHER;
	submitted.span.number = submitted.span.kind == BLOCK_OTHER ? operation : 0;
	disk = BPF_CORE_READ(request, q, disk);
	submitted.block.device = (u32)BPF_CORE_READ(disk, major) << 20 | BPF_CORE_READ(disk, first_minor);
	BPF_CORE_READ_STR_INTO(&submitted.block.disk, disk, disk_name);
	if (bpf_map_update_elem(&requests, &key, &submitted, BPF_ANY))
		count_loss(LOST_NO_REQUEST);
	return 0;
}

/* This request is now a part of another one. */
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
	/* The rest completes later. */
	if (!error && bytes < request->__data_len)
		return 0;
	submitted->span.end = bpf_ktime_get_ns();
	record = begin_or_summarize(&submitted->span);
	if (record) {
		record->block = submitted->block;
		submit(record);
	}
	bpf_map_delete_elem(&requests, &key);
	return 0;
}
