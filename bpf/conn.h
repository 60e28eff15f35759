/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * conn.h - the life of a connection: its server, state and time, how it is counted, how it ends.
 *
 * States are of tcp_states.h; an entry of answers (nat, fullnat) leads to its connection.
 */
#ifndef KERNLB_CONN_H
#define KERNLB_CONN_H

#include "conn_table.h"
#include "tcp_states.h"

/* Its server, if that is still the one that the entry was made for. */
static __always_inline struct server *server_of_ref(__u32 ref)
{
	__u32 id = SERVER_ID(ref);
	struct server *server = bpf_map_lookup_elem(&servers, &id);

	if (!server || !(server->flags & SERVER_ALIVE) || server->generation != ref >> 24)
		return NULL;
	return server;
}

static __always_inline __u32 timeout_of(union conn_word word)
{
	__u32 id = SERVER_ID(word.server);
	struct service *service;
	struct server *server;

	if (word.state != STATE_TEMPLATE)
		return settings.timeouts[word.state & (STATES - 1)];
	server = bpf_map_lookup_elem(&servers, &id);
	if (!server)
		return 0;
	service = bpf_map_lookup_elem(&services, &server->service);
	return service ? service->persistence : 0;
}

static __always_inline bool is_expired(const struct conn *conn, union conn_word word, __u32 now)
{
	return (__s32)(now - READ_ONCE(conn->seen)) > (__s32)timeout_of(word);
}

/* Counts, and IPVS's thresholds: ip_vs_bind_dest() and ip_vs_unbind_dest() in ip_vs_conn.c. */
__noinline int load_change(__u32 ref, int active, int inactive)
{
	__u32 id = SERVER_ID(ref), total;
	struct server *server = bpf_map_lookup_elem(&servers, &id);
	struct load *load = bpf_map_lookup_elem(&loads, &id);

	if (!server || !load || server->generation != ref >> 24)
		return 0;
	if (active)
		__sync_fetch_and_add(&load->active, active);
	if (inactive)
		__sync_fetch_and_add(&load->inactive, inactive);
	if (!server->upper)
		return 0;
	total = load->active + load->inactive;
	if (total >= server->upper)
		load->overloaded = 1;
	else if (server->lower ? total < server->lower : total * 4 < server->upper * 3)
		load->overloaded = 0;
	return 0;
}

static __always_inline void count_template(__u32 ref, int change)
{
	__u32 id = SERVER_ID(ref);
	struct server *server = bpf_map_lookup_elem(&servers, &id);
	struct load *load = bpf_map_lookup_elem(&loads, &id);

	if (server && load && server->generation == ref >> 24)
		__sync_fetch_and_add(&load->persistent, change);
}

static __always_inline void count_in(union conn_word word)
{
	if (word.state == STATE_TEMPLATE)
		count_template(word.server, 1);
	else if (!(word.flags & CONN_REVERSE))
		load_change(word.server, !!(word.flags & CONN_ACTIVE), !(word.flags & CONN_ACTIVE));
}

static __always_inline void count_out(union conn_word word)
{
	if (word.state == STATE_TEMPLATE)
		count_template(word.server, -1);
	else if (!(word.flags & CONN_REVERSE))
		load_change(word.server, -!!(word.flags & CONN_ACTIVE),
			    -!(word.flags & CONN_ACTIVE));
}

/* Of a connection that goes: the entry of its answers. */
static __always_inline void free_answers(__u32 answers, __u32 index, __u8 family)
{
	struct conn *conn = conn_at(answers, family);
	union conn_word word;

	if (!conn)
		return;
	word.word = READ_ONCE(conn->word.word);
	if (word.flags & CONN_REVERSE && READ_ONCE(conn->peer) == index)
		__sync_val_compare_and_swap(&conn->word.word, word.word, 0);
}

/* True for the one who did it. */
static __always_inline bool take(__u32 index, union conn_word word, __u64 instead, __u8 family)
{
	struct conn *conn = conn_at(index, family);
	__u32 peer;

	if (!conn || word.flags & CONN_BUSY)
		return false;
	peer = READ_ONCE(conn->peer);
	if (!__sync_bool_compare_and_swap(&conn->word.word, word.word, instead))
		return false;
	if (word.word && peer != NONE && !(word.flags & CONN_REVERSE))
		free_answers(peer, index, family);
	return true;
}

/* Take an entry out of use, `instead` of which is there then; true for the one who did it. */
__noinline int conn_take(__u32 index, __u64 word_seen, __u64 instead, __u8 family)
{
	union conn_word word = { word_seen };

	if (!take(index, word, instead, family))
		return false;
	if (word.word) /* else it was free */
		count_out(word);
	return true;
}

/* The same for a connection whose successor is to be counted before it is counted out. */
__noinline int conn_retire(__u32 index, __u64 word_seen, __u8 family)
{
	union conn_word word = { word_seen };

	return take(index, word, 0, family);
}

/* Not beyond its first packet: what a flood is made of. */
static __always_inline bool is_half_open(union conn_word word)
{
	return word.state == STATE_SYN_RECV || word.state == STATE_SCTP_INIT ||
	       ((word.state == STATE_UDP || word.state == STATE_TEMPLATE) &&
		!(word.flags & CONN_CONFIRMED));
}

static __always_inline bool is_closed(union conn_word word)
{
	return word.state == STATE_TIME_WAIT || word.state == STATE_CLOSE;
}

/*
 * A client's port used anew, as IPVS sees it with conn_reuse_mode 3 (is_new_conn_expected() in
 * ip_vs_core.c).  Where the server is not heard here, FIN_WAIT is all that is ever seen of an end.
 */
static __always_inline bool begins_again(const struct packet *p, union conn_word word)
{
	return !p->answers && p->flow.protocol == IPPROTO_TCP &&
	       (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN &&
	       (is_closed(word) ||
		(word.state == STATE_FIN_WAIT && !(word.flags & CONN_BOTH_WAYS)));
}

/* The connection of an entry of answers, if both still belong together. */
static __always_inline struct conn *connection_of(__u32 reverse, struct found *found,
						  const __u8 family)
{
	struct conn *answers = conn_at(reverse, family), *conn;

	if (!answers)
		return NULL;
	found->index = READ_ONCE(answers->peer);
	conn = conn_at(found->index, family);
	if (!conn)
		return NULL;
	found->word.word = READ_ONCE(conn->word.word);
	if (!(found->word.flags & CONN_USED) || found->word.flags & CONN_REVERSE ||
	    READ_ONCE(conn->peer) != reverse)
		return NULL;
	return conn;
}

static __always_inline struct signals *signals_of(__u32 ref)
{
	__u32 id = SERVER_ID(ref);

	return bpf_map_lookup_elem(&signals, &id);
}

/* Of a server by what happens to the first packets of its connections. */
static __always_inline void note_first_packets(const struct packet *p, union conn_word was,
					       union conn_word next)
{
	struct signals *noted = signals_of(was.server);

	if (!noted)
		return;
	if (next.state == STATE_ESTABLISHED && was.state != STATE_ESTABLISHED)
		noted->begun++;
	else if (p->tcp_flags & TCP_SYN && !(p->tcp_flags & TCP_ACK))
		noted->syn_again++;
}

/* A packet of a known connection: its time, and its state where the packet may change that. */
static __always_inline void conn_touch(const struct packet *p, struct conn *conn,
				       union conn_word word, bool answer)
{
	union conn_word next = word;

	if (p->dry)
		return;
	if (conn->seen != p->now)
		WRITE_ONCE(conn->seen, p->now);
	if (p->flow.protocol == IPPROTO_TCP) {
		if (word.state == STATE_ESTABLISHED &&
		    (p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) == TCP_ACK)
			return;
		next.state = tcp_next_state(word.state, p->tcp_flags,
					    answer			? TCP_OUTPUT :
					    word.flags & CONN_BOTH_WAYS ? TCP_INPUT :
									  TCP_INPUT_ONLY);
		if (!answer && is_half_open(word))
			note_first_packets(p, word, next);
	} else if (p->flow.protocol == IPPROTO_UDP) {
		next.flags |= CONN_CONFIRMED;
	} else {
		next.state = sctp_next_state(word.state, p->sctp_chunk);
	}
	if (is_active(next.state))
		next.flags |= CONN_ACTIVE;
	else
		next.flags &= ~CONN_ACTIVE;
	if (next.word == word.word ||
	    !__sync_bool_compare_and_swap(&conn->word.word, word.word, next.word))
		return; /* another CPU changed it: its packet came first */
	if (next.flags & CONN_ACTIVE && !(word.flags & CONN_ACTIVE))
		load_change(word.server, 1, -1);
	else if (!(next.flags & CONN_ACTIVE) && word.flags & CONN_ACTIVE)
		load_change(word.server, -1, 1);
}

#endif
