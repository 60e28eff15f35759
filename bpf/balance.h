/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * balance.h - a flow that is not known yet: which service, which server, and what to remember.
 */
#ifndef KERNLB_BALANCE_H
#define KERNLB_BALANCE_H

#define SOURCE_PORT_ATTEMPTS 1024
#define SOURCE_PORT_PATIENCE 64 /* attempts after which one that is half-open will do */

/* Written before load. */
const volatile __u32 cpus = 1;

/* Id of the service of a destination: on its very port first, then on every port. */
static __always_inline __u32 service_of(const struct flow *flow, __u32 marks)
{
	struct service_key key = {
		.port = flow->dport,
		.protocol = flow->protocol,
		.family = flow->family,
	};
	__u32 *id;

	if (flow->family == FAMILY_IPV4)
		key.addr[0] = flow->addr[1];
	else
		copy_address(key.addr, flow->addr + 4, FAMILY_IPV6);
	id = bpf_map_lookup_elem(&service_ids, &key);
	if (!id && marks & MARK_ANY_PORT) {
		key.port = 0;
		id = bpf_map_lookup_elem(&service_ids, &key);
	}
	return id ? *id : NONE;
}

static __always_inline struct service *service_at(__u32 id)
{
	struct service *service = bpf_map_lookup_elem(&services, &id);

	return service && service->flags & SERVICE_ALIVE ? service : NULL;
}

static __always_inline struct server *server_at(__u32 id)
{
	return bpf_map_lookup_elem(&servers, &id);
}

/*
 * The flow that stands for all connections of a client's network to a service.  A packet may have
 * source port 0, but not this protocol: it never finds a template.
 */
static __always_inline void template_of(const struct flow *flow, const struct service *service,
					struct flow *template)
{
	*template = *flow;
	template->sport = 0;
	template->protocol |= TEMPLATE_PROTOCOL;
	template->dport = service->port;
	template->addr[0] &= service->netmask[0];
	if (flow->family == FAMILY_IPV6) {
		template->addr[1] &= service->netmask[1];
		template->addr[2] &= service->netmask[2];
		template->addr[3] &= service->netmask[3];
	}
}

/* The server that this client had before, if it may take another connection. */
static __noinline __u32 server_by_template(const struct packet *p, const struct service *service)
{
	struct flow template = {};
	struct server *server;
	union conn_word again;
	struct found found = {};
	struct conn *conn;

	template_of(&p->flow, service, &template);
	if (!conn_find(&template, &found))
		return NONE;
	conn = conn_at(found.index, template.family);
	if (!conn || is_expired(conn, found.word, p->now))
		return NONE;
	server = server_of_ref(found.word.server);
	if (!server || !server->weight)
		return NONE;
	if (p->dry)
		return SERVER_ID(found.word.server);
	WRITE_ONCE(conn->seen, p->now);
	again = found.word;
	again.flags |= CONN_CONFIRMED; /* no flood of single packets */
	if (again.word != found.word.word)
		__sync_val_compare_and_swap(&conn->word.word, found.word.word, again.word);
	return SERVER_ID(found.word.server);
}

static __noinline void remember_template(const struct packet *p, const struct service *service,
					 __u32 server)
{
	struct entry entry = {
		.word = { .server = server, .state = STATE_TEMPLATE, .flags = CONN_USED },
		.peer = NONE,
		.now = p->now,
	};
	struct flow template = {};
	struct found found = {};

	template_of(&p->flow, service, &template);
	if (conn_find(&template, &found))
		conn_take(found.index, found.word.word, 0, template.family);
	conn_insert(&template, &entry);
}

/* A server's answers as nat and fullnat see them come in. */
static __always_inline void answers_of(const struct flow *flow, const struct server *server,
				       __be16 source_port, struct flow *answers)
{
	const bool full = server->forwarding == FORWARD_FULLNAT;

	if (flow->family == FAMILY_IPV4) {
		answers->addr[0] = server->addr[0];
		answers->addr[1] = full ? server->source[0] : flow->addr[0];
	} else {
		copy_address(answers->addr, server->addr, FAMILY_IPV6);
		copy_address(answers->addr + 4, full ? server->source : flow->addr, FAMILY_IPV6);
	}
	answers->sport = server->port ?: flow->dport;
	answers->dport = full ? source_port : flow->sport;
	answers->protocol = flow->protocol;
	answers->family = flow->family;
}

struct port_search {
	struct flow answers;
	__u32 half_open; /* index of a connection whose port may be taken, or NONE */
	__u32 start, count, first;
	__be16 its_port;
	bool found;
};

/* Of the connection whose answers these are, if it never got beyond its first packet. */
__noinline __u32 half_open_of(__u32 answers, __u8 family)
{
	struct found holder;

	if (!connection_of(answers, &holder, family) || !is_half_open(holder.word))
		return NONE;
	return holder.index;
}

__noinline int take_half_open(__u32 index, __u8 family)
{
	struct conn *conn = conn_at(index, family);
	union conn_word word;

	if (!conn)
		return false;
	word.word = READ_ONCE(conn->word.word);
	return is_half_open(word) && conn_take(index, word.word, 0, family);
}

static long port_step(__u32 n, struct port_search *search)
{
	__u32 port = search->first + (search->start + n) % (search->count ?: 1) * cpus;
	struct found taken = {};

	search->answers.dport = bpf_htons(port);
	search->found = !conn_find(&search->answers, &taken);
	if (search->found)
		return 1;
	if (search->half_open == NONE) {
		search->half_open = half_open_of(taken.index, search->answers.family);
		search->its_port = search->answers.dport;
	}
	return n >= SOURCE_PORT_PATIENCE && search->half_open != NONE;
}

/*
 * A source port that no connection to this server uses.  Every CPU has ports of its own, and runs
 * one packet at a time: two never take the same.  Where all are taken, who is half-open gives way:
 * a flood of SYNs drives out itself here too.
 */
static __noinline __be16 source_port_for(const struct flow *flow, const struct server *server,
					 bool dry)
{
	struct port_search search = {
		.half_open = unknown(NONE),
		.start = bpf_get_prandom_u32() & 0xffff,
		.count = (65536 - SOURCE_PORT_FIRST) / (cpus ?: 1),
		.first = SOURCE_PORT_FIRST + bpf_get_smp_processor_id(),
	};

	answers_of(flow, server, 0, &search.answers);
	bpf_loop(SOURCE_PORT_ATTEMPTS, port_step, &search, 0);
	if (search.found)
		return search.answers.dport;
	if (search.half_open == NONE || (!dry && !take_half_open(search.half_open, flow->family)))
		return 0;
	return search.its_port;
}

static __always_inline __u8 first_state(const struct packet *p)
{
	switch (p->flow.protocol) {
	case IPPROTO_TCP:
		return tcp_next_state(STATE_NONE, p->tcp_flags, TCP_INPUT_ONLY);
	case IPPROTO_UDP:
		return STATE_UDP;
	default:
		return sctp_next_state(STATE_SCTP_INIT, p->sctp_chunk);
	}
}

/*
 * Where a client has the same port open to two VIPs with the same server behind, nat cannot tell
 * their answers apart: the newer connection gets them, as in IPVS.
 */
__noinline int forget_answers(const struct flow *answers)
{
	struct found older = {};

	if (answers && conn_find(answers, &older) && older.word.flags & CONN_REVERSE)
		conn_take(older.index, older.word.word, 0, answers->family);
	return 0;
}

/* An entry for a server's answers; which connection's, it does not know yet. */
static __always_inline __u32 remember_answers(const struct packet *p, const struct server *server,
					      __u32 ref)
{
	struct entry entry = {
		.word = { .server = ref, .flags = CONN_USED | CONN_REVERSE },
		.peer = NONE,
		.now = p->now,
	};
	struct flow answers = {};

	answers_of(&p->flow, server, p->source_port, &answers);
	forget_answers(&answers);
	return conn_insert(&answers, &entry);
}

/*
 * Entries for the connection, and for its answers where they come back through here: both, or
 * neither.  The answers' comes first.  Nobody takes it away before it is linked, whereas the
 * connection, being half open, may be driven out at any moment.
 */
static __noinline enum reason remember(struct packet *p, const struct server *server, __u32 id)
{
	struct entry entry = {
		.word = { .server = SERVER_REF(id, server->generation),
			  .state = first_state(p),
			  .flags = CONN_USED },
		.peer = NONE,
		.now = p->now,
		.source_port = p->source_port,
	};
	struct conn *answers, *conn;
	union conn_word word;

	if (is_active(entry.word.state))
		entry.word.flags |= CONN_ACTIVE;
	if (server->forwarding >= FORWARD_NAT) {
		entry.word.flags |= CONN_BOTH_WAYS;
		entry.peer = remember_answers(p, server, entry.word.server);
		if (entry.peer == NONE)
			return REASON_TABLE_FULL;
	}
	p->why.conn = conn_insert(&p->flow, &entry);
	answers = entry.peer == NONE ? NULL : conn_at(entry.peer, p->flow.family);
	if (!answers)
		return p->why.conn == NONE ? REASON_TABLE_FULL : GO_ON;
	WRITE_ONCE(answers->peer, p->why.conn);
	conn = p->why.conn == NONE ? NULL : conn_at(p->why.conn, p->flow.family);
	word.word = READ_ONCE(answers->word.word);
	if (!conn || READ_ONCE(conn->peer) != entry.peer) { /* there is none, or no more */
		conn_take(entry.peer, word.word, 0, p->flow.family);
	} else if (!(word.flags & CONN_REVERSE) || word.server != entry.word.server) {
		word.word = READ_ONCE(conn->word.word); /* without answers it is of no use */
		conn_take(p->why.conn, word.word, 0, p->flow.family);
		return REASON_TABLE_FULL;
	}
	return p->why.conn == NONE ? REASON_TABLE_FULL : GO_ON;
}

/* TCP begins with SYN; only hashing finds the server of a connection that began elsewhere. */
static __always_inline bool may_begin(const struct packet *p, const struct service *service)
{
	if (p->flow.protocol != IPPROTO_TCP || is_hashed(service))
		return true;
	return (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/*
 * The first packet of a flow, or one of a flow without entry: GO_ON with p->why.server (and
 * p->source_port for fullnat), or why not.
 */
__noinline int begin(struct packet *p)
{
	struct service *service;
	struct server *server;
	enum reason stop;
	bool persistent;
	__u32 id = NONE;

	if (!p || !(p->marks & MARK_VIP))
		return REASON_NOT_OURS;
	p->why.service = service_of(&p->flow, p->marks);
	p->why.conn = NONE;
	service = service_at(p->why.service);
	if (!service)
		return REASON_NO_SERVICE;
	if (!is_host(p->flow.addr, p->flow.family))
		return REASON_MALFORMED;
	if (!may_begin(p, service))
		return REASON_NO_CONNECTION;

	persistent = service->flags & SERVICE_PERSISTENT;
	if (persistent)
		id = server_by_template(p, service);
	p->why.chosen_by = CHOSEN_TEMPLATE;
	if (id == NONE) {
		id = select_server(p, service);
		p->why.chosen_by = CHOSEN_SCHEDULER;
	}
	p->why.server = id;
	server = server_at(id);
	if (!server) {
		p->why.chosen_by = CHOSEN_NOT;
		return REASON_NO_SERVER;
	}
	p->source_port = 0;
	if (server->forwarding == FORWARD_FULLNAT) {
		p->source_port = source_port_for(&p->flow, server, p->dry);
		if (!p->source_port)
			return REASON_NO_SOURCE_PORT;
	}
	if (persistent && p->why.chosen_by == CHOSEN_SCHEDULER && !p->dry)
		remember_template(p, service, SERVER_REF(id, server->generation));
	if (service->flags & SERVICE_ONE_PACKET && server->forwarding < FORWARD_NAT)
		return GO_ON;
	if (p->dry)
		stop = conn_may_insert(&p->flow, p->now) ? GO_ON : REASON_TABLE_FULL;
	else
		stop = remember(p, server, id);
	if (stop == REASON_TABLE_FULL && is_hashed(service) && server->forwarding < FORWARD_NAT) {
		if (!p->dry)
			count_reason(REASON_TABLE_FULL);
		return GO_ON; /* its next packet hashes to the same server */
	}
	return stop;
}

#endif
