"""The C text of the probes in IPVS: see ``programs``."""

IPVS = """
#define FORWARD_MASK 7 /* IP_VS_CONN_F_FWD_MASK; 0 is nat */
#define TEMPLATE 0x1000 /* IP_VS_CONN_F_TEMPLATE */
#define AF_INET 2

enum { NO_SERVER, CHOSEN, BEGINS, ENDS };

struct event {
    u64 time;
    u64 lifetime;
    u8 client[16];
    u8 vip[16];
    u8 server[16];
    u16 client_port, vip_port, server_port; /* network order */
    u8 family, server_family; /* AF_ */
    u8 protocol;
    u8 kind;
    u16 state;
    u32 mark;
    u32 packets;
    u32 pad;
    char scheduler[16];
};

BPF_PERF_OUTPUT(events);

struct budget {
    u64 second;
    u64 used;
};
BPF_PERCPU_ARRAY(budgets, struct budget, 1);

static inline int may_tell(u64 now)
{
    int zero = 0;
    struct budget *budget = budgets.lookup(&zero);

    if (!budget)
        return 0;
    if (budget->second != now >> 30) {
        budget->second = now >> 30;
        budget->used = 0;
    }
    if (budget->used >= PER_SECOND) {
        leave_out();
        return 0;
    }
    budget->used++;
    return 1;
}

/* Behind an IPv4 address there may be anything. */
static inline void clean(struct event *event)
{
    if (event->family == AF_INET) {
        __builtin_memset(event->client + 4, 0, 12);
        __builtin_memset(event->vip + 4, 0, 12);
    }
    if (event->server_family == AF_INET)
        __builtin_memset(event->server + 4, 0, 12);
}

static inline void read_conn(struct event *event, void *cp)
{
    u16 family;
    int packets;

    GET(family, cp, ip_vs_conn_af);
    event->family = family;
    GET(family, cp, ip_vs_conn_daf);
    event->server_family = family;
    GET(event->client, cp, ip_vs_conn_caddr);
    GET(event->vip, cp, ip_vs_conn_vaddr);
    GET(event->server, cp, ip_vs_conn_daddr);
    GET(event->client_port, cp, ip_vs_conn_cport);
    GET(event->vip_port, cp, ip_vs_conn_vport);
    GET(event->server_port, cp, ip_vs_conn_dport);
    GET(event->mark, cp, ip_vs_conn_fwmark);
    GET(event->state, cp, ip_vs_conn_state);
    GET(packets, cp, ip_vs_conn_in_pkts);
    event->packets = packets;
    GET(event->protocol, cp, ip_vs_conn_protocol); /* its low byte */
    clean(event);
}

static inline int is_wanted(const struct event *event)
{
    return wants(event->vip, event->vip_port, event->protocol);
}
"""

SCHEDULE = """
struct asked {
    void *svc;
    void *skb;
    void *iph;
};
BPF_PERCPU_ARRAY(asked, struct asked, 1);

struct choice {
    u8 vip[16];
    u8 server[16];
    u16 vip_port, server_port;
    u8 family, server_family, protocol, chosen;
    u32 mark;
    u32 pad;
};
BPF_HASH(choices, struct choice, u64, 4096);

int schedule_begins(struct pt_regs *ctx, void *svc, void *skb,
            void *pd, int *ignored, void *iph)
{
    struct asked now = { .svc = svc, .skb = skb, .iph = iph };
    int zero = 0;

    asked.update(&zero, &now);
    return 0;
}

/* A packet that no server takes has no connection: it says itself who it is. */
static inline void read_asked(struct event *event, struct asked *now)
{
    char *data;
    u32 length;
    u16 family;

    GET(family, now->svc, ip_vs_service_af);
    event->family = event->server_family = family;
    GET(event->client, now->iph, ip_vs_iphdr_saddr);
    GET(event->vip, now->iph, ip_vs_iphdr_daddr);
    clean(event);
    GET(length, now->iph, ip_vs_iphdr_len);
    GET(data, now->skb, sk_buff_data);
    bpf_probe_read_kernel(&event->client_port, 2, data + length);
    bpf_probe_read_kernel(&event->vip_port, 2, data + length + 2);
    GET(event->mark, now->svc, ip_vs_service_fwmark);
    GET(event->protocol, now->svc, ip_vs_service_protocol);
}

int schedule_ends(struct pt_regs *ctx)
{
    void *cp = (void *)PT_REGS_RC(ctx);
    void *scheduler;
    struct event event = {};
    struct choice choice = {};
    struct asked *now;
    u64 one = 1, *count;
    int zero = 0;
    char *name;

    now = asked.lookup(&zero);
    if (!now || !now->svc)
        return 0;
    if (cp)
        read_conn(&event, cp);
    else
        read_asked(&event, now);
    event.kind = cp ? CHOSEN : NO_SERVER;
    if (!is_wanted(&event))
        return 0;
    __builtin_memcpy(choice.vip, event.vip, 16);
    __builtin_memcpy(choice.server, event.server, 16);
    choice.vip_port = event.vip_port;
    choice.server_port = event.server_port;
    choice.family = event.family;
    choice.server_family = event.server_family;
    choice.protocol = event.protocol;
    choice.chosen = event.kind == CHOSEN;
    choice.mark = event.mark;
    count = choices.lookup(&choice);
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        choices.update(&choice, &one);
    event.time = bpf_ktime_get_ns();
    if (!may_tell(event.time))
        return 0;
    GET(scheduler, now->svc, ip_vs_service_scheduler);
    if (scheduler) {
        GET(name, scheduler, ip_vs_scheduler_name);
        bpf_probe_read_kernel_str(event.scheduler, sizeof(event.scheduler), name);
    }
    events.perf_submit(ctx, &event, sizeof(event));
    return 0;
}
"""

BEGINS = """
int conn_begins(struct pt_regs *ctx)
{{
    void *cp = (void *)PT_REGS_RC(ctx);
    struct event event = {{}};

    if (!cp)
        return 0;
    read_conn(&event, cp);
    if (!is_wanted(&event))
        return 0;
    event.time = bpf_ktime_get_ns();
    {told}
    {measured}
    return 0;
}}
"""

CONNECTIONS = """
BPF_TABLE("lru_hash", void *, u64, born, 65536);
BPF_ARRAY(totals, u64, 2); /* begun, ended */

static inline void tell(void *ctx, struct event *event, int kind)
{
    int index = kind - BEGINS;
    u64 *total = totals.lookup(&index);

    if (total)
        __sync_fetch_and_add(total, 1);
    event->kind = kind;
    if (may_tell(event->time))
        events.perf_submit(ctx, event, sizeof(*event));
}

static inline void tell_begin(void *ctx, struct event *event, void *cp)
{
    born.update(&cp, &event->time);
    tell(ctx, event, BEGINS);
}

/* It runs once for a connection, when its last user has let it go. */
int conn_ends(struct pt_regs *ctx, void *head)
{
    void *cp = head - OFFSET_ip_vs_conn_callback_head;
    struct event event = {};
    u64 *since;

    read_conn(&event, cp);
    if (!is_wanted(&event))
        return 0;
    event.time = bpf_ktime_get_ns();
    since = born.lookup(&cp);
    if (since) {
        event.lifetime = event.time - *since;
        born.delete(&cp);
    }
    tell(ctx, &event, ENDS);
    return 0;
}
"""

LATENCY = """
struct answered {
    u8 server[16];
    u16 port; /* network order */
    u8 family, protocol;
    u32 slot;
};
BPF_TABLE("lru_hash", void *, u64, waiting, 65536);
BPF_HASH(latencies, struct answered, u64, 16384);
BPF_HASH(begun, struct answered, u64, 4096); /* slot 0 */

static inline u32 slot_of(u64 delta)
{
    u64 us = delta / 1000;
    u32 v = us > 0xffffffff ? 0xffffffff : us, power = 0, w = v;

    if (w >= 1 << 16) { w >>= 16; power += 16; }
    if (w >= 1 << 8) { w >>= 8; power += 8; }
    if (w >= 1 << 4) { w >>= 4; power += 4; }
    if (w >= 1 << 2) { w >>= 2; power += 2; }
    if (w >= 1 << 1) { power += 1; }
    return power < 2 ? v : power * 4 + ((v >> (power - 2)) & 3);
}

static inline void read_server(struct answered *key, struct event *event)
{
    __builtin_memcpy(key->server, event->server, 16);
    key->port = event->server_port;
    key->family = event->server_family;
    key->protocol = event->protocol;
}

static inline void expect_answer(struct event *event, void *cp)
{
    struct answered key = {};
    u64 one = 1, *count;
    u32 flags;

    GET(flags, cp, ip_vs_conn_flags);
    if (flags & (FORWARD_MASK | TEMPLATE))
        return;
    waiting.update(&cp, &event->time);
    read_server(&key, event);
    count = begun.lookup(&key);
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        begun.update(&key, &one);
}

/* The first packet of a server that is on its way to the client. */
int answer_comes(struct pt_regs *ctx, void *skb, void *pp, void *cp)
{
    struct answered key = {};
    struct event event = {};
    u64 one = 1, *since, *count;

    since = waiting.lookup(&cp);
    if (!since)
        return 0;
    read_conn(&event, cp);
    read_server(&key, &event);
    key.slot = slot_of(bpf_ktime_get_ns() - *since);
    waiting.delete(&cp);
    count = latencies.lookup(&key);
    if (count)
        __sync_fetch_and_add(count, 1);
    else if (latencies.update(&key, &one))
        leave_out();
    return 0;
}
"""
