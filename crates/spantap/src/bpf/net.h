/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* TCP. Much of it happens outside of any thread, so each socket is stored with the span that used it last: from its
 * connect on, or, for an accepted connection, from the first read or write in a span. */
#pragma once

/* net/tcp_states.h */
#define ESTABLISHED 1
#define SYN_SENT 2
#define SYN_RECEIVED 3
#define FIN_WAIT1 4
#define CLOSED 7
#define LAST_ACK 9

/* include/net/sock.h */
#define RCV_SHUTDOWN 1
#define SOCK_DONE 1 /* a bit's number: the peer's FIN has come */

#define ECANCELED 125

#define AF_INET 2
#define AF_INET6 10
#define PROTOCOL_TCP 6

struct tracked {
	struct ids ids; /* span id 0: no span has used it yet */
	struct owner owner;
	u64 start; /* of the connect, then of the connection */
	u32 is_connecting; /* only from this end */
	u32 is_closed;	   /* and its close is reported */
	u32 retransmits;   /* total_retrans at the last report */
};

/* Stored with the socket, and freed with it. Accepted sockets of other programs have an entry, too. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tracked);
} sockets SEC(".maps");

static __always_inline struct tracked *tracked_of(const struct sock *sock)
{
	return bpf_sk_storage_get(&sockets, (void *)sock, NULL, 0);
}

static __always_inline u32 retransmits_of(const struct sock *sock)
{
	return BPF_CORE_READ((const struct tcp_sock *)sock, total_retrans);
}

/* Starts to follow a socket, with no span yet. NULL if there is no memory. */
static __always_inline struct tracked *track(const struct sock *sock, u64 now)
{
	struct tracked *tracked = bpf_sk_storage_get(&sockets, (void *)sock, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!tracked)
		return NULL;
	__builtin_memset(tracked, 0, sizeof(*tracked));
	tracked->start = now;
	tracked->retransmits = retransmits_of(sock);
	return tracked;
}

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

static __always_inline void report_connection(u32 kind, const struct tracked *tracked, const struct sock *sock,
					      s32 error, u64 start, u64 end, u32 queued)
{
	struct kernel_span span = {
		.kind = kind, .ids = tracked->ids, .owner = tracked->owner, .start = start, .end = end
	};
	const struct tcp_sock *tcp = (const struct tcp_sock *)sock;
	struct connection *connection;
	struct record_kernel *record;

	/* An event without duration always gets its own record. */
	record = start == end ? begin_record(&span) : begin_or_summarize(&span);
	if (!record)
		return;
	connection = &record->connection;
	fill_addresses(connection, sock);
	connection->error = error;
	connection->lifetime = end - tracked->start;
	connection->srtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3;
	connection->sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans) + queued;
	/* bytes_received counts the peer's FIN, too. */
	connection->received = BPF_CORE_READ(tcp, bytes_received) - (sock->__sk_common.skc_flags >> SOCK_DONE & 1);
	connection->retransmits = retransmits_of(sock);
	submit(record);
}

/* The current thread uses the socket in a span: later events are reported in that span. */
static __always_inline void set_span(struct tracked *tracked, struct thread *thread)
{
	tracked->ids = *innermost(thread);
	fill_current_owner(&tracked->owner);
}

/* Bytes that were written and not sent yet. */
static __always_inline u32 queued_in(const struct sock *sock, bool has_fin)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sock;
	u32 queued = BPF_CORE_READ(tcp, write_seq) - BPF_CORE_READ(tcp, snd_nxt);

	/* write_seq counts the FIN, which comes last. */
	return queued && has_fin ? queued - 1 : queued;
}

static __always_inline void begin_connect(const struct sock *sock, u64 now)
{
	struct thread *thread = in_span(bpf_get_current_task_btf());
	struct tracked *tracked;

	if (!thread) {
		bpf_sk_storage_delete(&sockets, (void *)sock);
		return;
	}
	tracked = track(sock, now);
	if (!tracked) {
		count_loss(LOST_NO_SOCKET);
		return;
	}
	tracked->is_connecting = 1;
	set_span(tracked, thread);
}

/* The connection's total includes the retransmits whose events were missed. */
static __always_inline void count_missed_retransmits(const struct sock *sock, struct tracked *tracked)
{
	u32 retransmits = retransmits_of(sock);

	if (tracked->ids.span_id && tracked->retransmits != retransmits)
		count_loss(LOST_RETRANSMITS);
	tracked->retransmits = retransmits;
}

static __always_inline void report_connect(const struct sock *sock, struct tracked *tracked, s32 error, u64 now)
{
	count_missed_retransmits(sock, tracked);
	report_connection(TCP_CONNECT, tracked, sock, error, tracked->start, now, 0);
	tracked->start = now;
	tracked->is_connecting = 0;
}

/* Whether the program closes the connection and nothing more will come: it has closed both directions, or the peer
 * has closed the other. (If it closes only its own direction and goes on reading, the connection ends when the kernel
 * is done with it.) */
static __always_inline bool is_closing(const struct sock *sock, int after)
{
	return (after == FIN_WAIT1 || after == LAST_ACK) && sock->sk_shutdown & RCV_SHUTDOWN;
}

static __always_inline void report_close(const struct sock *sock, struct tracked *tracked, int before, int after,
					 u64 now)
{
	bool by_program = after != CLOSED;
	struct thread *thread = by_program ? in_span(bpf_get_current_task_btf()) : NULL;
	/* Its own direction was closed before, and a FIN is queued. */
	u32 queued = by_program ? queued_in(sock, before == FIN_WAIT1) : 0;

	tracked->is_closed = 1;
	count_missed_retransmits(sock, tracked);
	if (thread)
		set_span(tracked, thread);
	if (tracked->ids.span_id)
		report_connection(TCP_CLOSE, tracked, sock, sock->sk_err, now, now, queued);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sock, const int before, const int after)
{
	struct tracked *tracked;
	u64 now;

	if (sock->sk_protocol != PROTOCOL_TCP)
		return 0;
	now = bpf_ktime_get_ns();
	if (after == SYN_SENT) {
		begin_connect(sock, now);
		return 0;
	}
	tracked = tracked_of(sock);
	if (tracked && tracked->is_connecting) {
		/* SYN_RECEIVED: both ends connect at once, and the connect goes on. Without an error it was given up
		 * or could not begin. */
		if (after != SYN_RECEIVED)
			report_connect(sock, tracked, after == ESTABLISHED ? 0 : sock->sk_err ?: ECANCELED, now);
	} else if (before == SYN_RECEIVED && after == ESTABLISHED) {
		/* For any program's socket. If this fails, the socket is stored at its first use in a span. */
		if (!tracked)
			track(sock, now);
	} else if (tracked && !tracked->is_closed && (after == CLOSED || is_closing(sock, after))) {
		report_close(sock, tracked, before, after, now);
	}
	if (after == CLOSED && tracked)
		bpf_sk_storage_delete(&sockets, (void *)sock);
	return 0;
}

/* The current thread has read or written. */
static __always_inline int read_or_written(const struct sock *sock, int result)
{
	struct thread *thread;
	struct tracked *tracked;
	u64 now, since;

	/* Errors such as EAGAIN do not count as a use of the socket. */
	if (result < 0 || sock->sk_protocol != PROTOCOL_TCP)
		return 0;
	thread = in_span(bpf_get_current_task_btf());
	if (!thread)
		return 0;
	tracked = tracked_of(sock);
	if (!tracked) {
		/* It was connected before the attach, or outside of any span: its start is unknown. */
		tracked = track(sock, bpf_ktime_get_ns());
		if (tracked)
			set_span(tracked, thread);
		else
			count_loss(LOST_NO_SOCKET);
		return 0;
	}
	if (tracked->ids.span_id == innermost(thread)->span_id)
		return 0;
	if (tracked->ids.span_id) {
		set_span(tracked, thread);
		return 0;
	}
	/* The connection may have waited since before this span; only the span's time counts. */
	now = bpf_ktime_get_ns();
	since = thread->innermost_began;
	set_span(tracked, thread);
	report_connection(TCP_ACCEPT, tracked, sock, 0, tracked->start > since ? tracked->start : since, now, 0);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send_length, const struct sock *sock, int result, int flags)
{
	return read_or_written(sock, result);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_recv_length, const struct sock *sock, int result, int flags)
{
	return read_or_written(sock, result);
}

static __always_inline void report_event(u32 kind, const struct sock *sock, const struct tracked *tracked)
{
	u64 now = bpf_ktime_get_ns();

	if (tracked->ids.span_id)
		report_connection(kind, tracked, sock, 0, now, now, 0);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, const struct sock *sock)
{
	struct tracked *tracked = tracked_of(sock);

	if (!tracked)
		return 0;
	/* The total includes this one. */
	tracked->retransmits = retransmits_of(sock);
	report_event(TCP_RETRANSMIT, sock, tracked);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, const struct sock *sock)
{
	struct tracked *tracked = tracked_of(sock);

	if (tracked)
		report_event(TCP_RESET, sock, tracked);
	return 0;
}
