/* TCP. Much of it happens outside of any thread, so a socket is remembered with the span that used it
 * last: from its connect on, or from the first read or write of a connection that was accepted. */
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

struct used {
	struct who who; /* span id 0: nobody yet */
	struct whose whose;
	u64 start; /* of the connecting, or of the connection */
	u32 is_connecting; /* from this end */
	u32 is_closed;	   /* and told */
	u32 retransmits;   /* until which it was told of them */
};

/* Goes with the socket. Those of others' programs have it, too, once they are accepted. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct used);
} sockets SEC(".maps");

static __always_inline struct used *used_of(const struct sock *sock)
{
	return bpf_sk_storage_get(&sockets, (void *)sock, NULL, 0);
}

static __always_inline u32 retransmits_of(const struct sock *sock)
{
	return BPF_CORE_READ((const struct tcp_sock *)sock, total_retrans);
}

/* From now on, by nobody yet; or NULL. */
static __always_inline struct used *remember(const struct sock *sock, u64 now)
{
	struct used *used = bpf_sk_storage_get(&sockets, (void *)sock, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!used)
		return NULL;
	__builtin_memset(used, 0, sizeof(*used));
	used->start = now;
	used->retransmits = retransmits_of(sock);
	return used;
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

static __always_inline void report_connection(u32 what, const struct used *used, const struct sock *sock, s32 error,
					      u64 start, u64 end, u32 queued)
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
	connection->sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans) + queued;
	/* The peer's FIN is counted, too. */
	connection->received = BPF_CORE_READ(tcp, bytes_received) - (sock->__sk_common.skc_flags >> SOCK_DONE & 1);
	connection->retransmits = retransmits_of(sock);
	submit(record);
}

/* The current thread uses it, in a span: then the span is the one to tell of what comes. */
static __always_inline void use(struct used *used, struct thread *thread)
{
	used->who = *innermost(thread);
	fill_whose(&used->whose);
}

/* Of what it wrote: not sent yet. */
static __always_inline u32 queued_in(const struct sock *sock, bool has_fin)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sock;
	u32 queued = BPF_CORE_READ(tcp, write_seq) - BPF_CORE_READ(tcp, snd_nxt);

	/* Which comes last. */
	return queued && has_fin ? queued - 1 : queued;
}

static __always_inline void starts_to_connect(const struct sock *sock, u64 now)
{
	struct thread *thread = in_span(bpf_get_current_task_btf());
	struct used *used;

	if (!thread) {
		bpf_sk_storage_delete(&sockets, (void *)sock);
		return;
	}
	used = remember(sock, now);
	if (!used) {
		lose(LOST_NO_SOCKET);
		return;
	}
	used->is_connecting = 1;
	use(used, thread);
}

/* The connection counts them, too. */
static __always_inline void count_untold_retransmits(const struct sock *sock, struct used *used)
{
	u32 retransmits = retransmits_of(sock);

	if (used->who.span_id && used->retransmits != retransmits)
		lose(LOST_RETRANSMITS);
	used->retransmits = retransmits;
}

static __always_inline void has_connected(const struct sock *sock, struct used *used, s32 error, u64 now)
{
	count_untold_retransmits(sock, used);
	report_connection(TCP_CONNECT, used, sock, error, used->start, now, 0);
	used->start = now;
	used->is_connecting = 0;
}

/* By the program, and nothing more will come: it has closed both sides, or the peer has closed the other. (If it closes
 * its own side alone and goes on to read, it is over when the kernel has done with it.) */
static __always_inline bool is_closing(const struct sock *sock, int after)
{
	return (after == FIN_WAIT1 || after == LAST_ACK) && sock->sk_shutdown & RCV_SHUTDOWN;
}

static __always_inline void has_closed(const struct sock *sock, struct used *used, int before, int after, u64 now)
{
	bool by_thread = after != CLOSED;
	struct thread *thread = by_thread ? in_span(bpf_get_current_task_btf()) : NULL;
	/* It had closed its own side before. */
	u32 queued = by_thread ? queued_in(sock, before == FIN_WAIT1) : 0;

	used->is_closed = 1;
	count_untold_retransmits(sock, used);
	if (thread)
		use(used, thread);
	if (used->who.span_id)
		report_connection(TCP_CLOSE, used, sock, sock->sk_err, now, now, queued);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sock, const int before, const int after)
{
	struct used *used;
	u64 now;

	if (sock->sk_protocol != PROTOCOL_TCP)
		return 0;
	now = bpf_ktime_get_ns();
	if (after == SYN_SENT) {
		starts_to_connect(sock, now);
		return 0;
	}
	used = used_of(sock);
	if (used && used->is_connecting) {
		/* Both ends may do so at once: then it goes on. Without an error it was given up, or could not begin. */
		if (after != SYN_RECEIVED)
			has_connected(sock, used, after == ESTABLISHED ? 0 : sock->sk_err ?: ECANCELED, now);
	} else if (before == SYN_RECEIVED && after == ESTABLISHED) {
		/* Of whatever program: if that fails, it is remembered at its first use in a span. */
		if (!used)
			remember(sock, now);
	} else if (used && !used->is_closed && (after == CLOSED || is_closing(sock, after))) {
		has_closed(sock, used, before, after, now);
	}
	if (after == CLOSED && used)
		bpf_sk_storage_delete(&sockets, (void *)sock);
	return 0;
}

/* A read or a write of the current thread. */
static __always_inline int used_by_thread(const struct sock *sock, int result)
{
	struct thread *thread;
	struct used *used;
	u64 now, since;

	/* Such as that there is nothing yet. */
	if (result < 0 || sock->sk_protocol != PROTOCOL_TCP)
		return 0;
	thread = in_span(bpf_get_current_task_btf());
	if (!thread)
		return 0;
	used = used_of(sock);
	if (!used) {
		/* Connected before we looked, or outside of any span: since when is not known. */
		used = remember(sock, bpf_ktime_get_ns());
		if (used)
			use(used, thread);
		else
			lose(LOST_NO_SOCKET);
		return 0;
	}
	if (used->who.span_id == innermost(thread)->span_id)
		return 0;
	if (used->who.span_id) {
		use(used, thread);
		return 0;
	}
	/* It may have waited for long; in this span it did so from its beginning on. */
	now = bpf_ktime_get_ns();
	since = since_of(&thread->stack[(thread->depth - 1) & (DEPTH - 1)]);
	use(used, thread);
	report_connection(TCP_ACCEPT, used, sock, 0, used->start > since ? used->start : since, now, 0);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send_length, const struct sock *sock, int result, int flags)
{
	return used_by_thread(sock, result);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_recv_length, const struct sock *sock, int result, int flags)
{
	return used_by_thread(sock, result);
}

static __always_inline void happened(u32 what, const struct sock *sock, const struct used *used)
{
	u64 now = bpf_ktime_get_ns();

	if (used->who.span_id)
		report_connection(what, used, sock, 0, now, now, 0);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, const struct sock *sock)
{
	struct used *used = used_of(sock);

	if (!used)
		return 0;
	/* It has counted this one. */
	used->retransmits = retransmits_of(sock);
	happened(TCP_RETRANSMIT, sock, used);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, const struct sock *sock)
{
	struct used *used = used_of(sock);

	if (used)
		happened(TCP_RESET, sock, used);
	return 0;
}
