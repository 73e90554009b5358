/* TCP. Much of it happens outside of any thread, so a socket is remembered with the span that used it
 * last: from its connect on, or from the first read or write of a connection that was accepted. */
#pragma once

/* net/tcp_states.h */
#define ESTABLISHED 1
#define SYN_SENT 2
#define SYN_RECEIVED 3
#define FIN_WAIT1 4
#define CLOSED 7
#define CLOSE_WAIT 8
#define LAST_ACK 9

#define ECANCELED 125

#define AF_INET 2
#define AF_INET6 10
#define PROTOCOL_TCP 6

struct used {
	struct who who; /* span id 0: nobody yet */
	struct whose whose;
	u64 start; /* of the connecting, or of the connection */
	u32 is_closed; /* and told */
	u32 unused;
};

/* Sockets of others' programs come here, too, when they are accepted: those that were not used for longest make
 * room, and may be ours. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 15);
	__type(key, u64);
	__type(value, struct used);
} sockets SEC(".maps");

static __always_inline void fill_addresses(struct connection *connection, const struct sock *sock)
{
	const struct sock_common *common = &sock->__sk_common;

	connection->family = common->skc_family;
	connection->local_port = common->skc_num;
	connection->peer_port = bpf_ntohs(common->skc_dport);
	if (connection->family == AF_INET) {
		connection->local[0] = common->skc_rcv_saddr;
		connection->peer[0] = common->skc_daddr;
	} else if (connection->family == AF_INET6) {
		for (int i = 0; i < 4; i++) {
			connection->local[i] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[i];
			connection->peer[i] = common->skc_v6_daddr.in6_u.u6_addr32[i];
		}
	}
}

static __always_inline void report_connection(u32 what, const struct used *used, const struct sock *sock, s32 error,
					      u64 start, u64 end, bool has_fin)
{
	struct kernel_span span = {
		.what = what, .who = used->who, .whose = used->whose, .start = start, .end = end
	};
	const struct tcp_sock *tcp = (const struct tcp_sock *)sock;
	struct connection *connection;
	struct record_kernel *record;

	/* What has no length is told each time. */
	record = start == end ? begin_record(&span) : begin_or_add(&span);
	if (!record)
		return;
	connection = &record->connection;
	fill_addresses(connection, sock);
	connection->error = error;
	connection->lifetime = end - used->start;
	connection->srtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3;
	connection->sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
	/* The peer's FIN is counted, too. */
	connection->received = BPF_CORE_READ(tcp, bytes_received) - has_fin;
	connection->retransmits = BPF_CORE_READ(tcp, total_retrans);
	submit(record);
}

/* The current thread uses it, in a span: then the span is the one to tell of what comes. */
static __always_inline void use(struct used *used, struct thread *thread)
{
	used->who = *innermost(thread);
	fill_whose(&used->whose);
}

static __always_inline void starts_to_connect(const struct sock *sock, struct thread *thread, u64 now)
{
	struct used used = { .start = now };
	u64 key = (u64)sock;

	use(&used, thread);
	if (bpf_map_update_elem(&sockets, &key, &used, BPF_ANY))
		lose(LOST_NO_SOCKET);
}

static __always_inline void was_accepted(const struct sock *sock, u64 now)
{
	struct used used = { .start = now };
	u64 key = (u64)sock;

	bpf_map_update_elem(&sockets, &key, &used, BPF_ANY);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sock, const int before, const int after)
{
	struct thread *thread;
	u64 key = (u64)sock, now;
	struct used *used;
	s32 error;

	if (sock->sk_protocol != PROTOCOL_TCP)
		return 0;
	now = bpf_ktime_get_ns();
	if (after == SYN_SENT) {
		thread = in_span(bpf_get_current_task_btf());
		if (thread)
			starts_to_connect(sock, thread, now);
		else
			bpf_map_delete_elem(&sockets, &key);
		return 0;
	}
	if (before == SYN_RECEIVED && after == ESTABLISHED) {
		was_accepted(sock, now);
		return 0;
	}
	used = bpf_map_lookup_elem(&sockets, &key);
	if (!used)
		return 0;
	if (before == SYN_SENT) {
		/* Without an error it was given up. */
		error = after == ESTABLISHED ? 0 : sock->sk_err ?: ECANCELED;
		report_connection(TCP_CONNECT, used, sock, error, used->start, now, false);
		used->start = now;
	} else if (after != CLOSE_WAIT && !used->is_closed) {
		used->is_closed = 1;
		/* These are of a thread that closes it; others may be of an interrupt. */
		thread = after == FIN_WAIT1 || after == LAST_ACK ? in_span(bpf_get_current_task_btf()) : NULL;
		if (thread)
			use(used, thread);
		if (used->who.span_id)
			report_connection(TCP_CLOSE, used, sock, sock->sk_err, now, now, before == CLOSE_WAIT);
	}
	if (after == CLOSED)
		bpf_map_delete_elem(&sockets, &key);
	return 0;
}

/* A read or a write of the current thread. */
static __always_inline int used_by_thread(const struct sock *sock)
{
	struct thread *thread;
	u64 key = (u64)sock;
	struct used *used;

	if (sock->sk_protocol != PROTOCOL_TCP)
		return 0;
	thread = in_span(bpf_get_current_task_btf());
	if (!thread)
		return 0;
	used = bpf_map_lookup_elem(&sockets, &key);
	if (!used) {
		/* Connected before we looked, or outside of any span: since when is not known. */
		was_accepted(sock, bpf_ktime_get_ns());
		used = bpf_map_lookup_elem(&sockets, &key);
		if (used)
			use(used, thread);
		return 0;
	}
	if (used->who.span_id == innermost(thread)->span_id)
		return 0;
	if (used->who.span_id == 0) {
		use(used, thread);
		report_connection(TCP_ACCEPT, used, sock, 0, used->start, bpf_ktime_get_ns(), false);
		return 0;
	}
	use(used, thread);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send_length, const struct sock *sock, int result, int flags)
{
	return used_by_thread(sock);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_recv_length, const struct sock *sock, int result, int flags)
{
	return used_by_thread(sock);
}

static __always_inline int happened(u32 what, const struct sock *sock)
{
	u64 key = (u64)sock, now;
	struct used *used = bpf_map_lookup_elem(&sockets, &key);

	if (!used || !used->who.span_id)
		return 0;
	now = bpf_ktime_get_ns();
	report_connection(what, used, sock, 0, now, now, false);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, const struct sock *sock)
{
	return happened(TCP_RETRANSMIT, sock);
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, const struct sock *sock)
{
	return happened(TCP_RESET, sock);
}
