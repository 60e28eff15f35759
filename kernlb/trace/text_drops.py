"""The C text of what every probe has, and of those for drops: see ``programs``."""

BEGIN = """
#include <uapi/linux/ptrace.h>

#define GET(to, base, field) \\
    bpf_probe_read_kernel(&(to), sizeof(to), (char *)(base) + OFFSET_##field)
#define NETWORK_ORDER(port) __builtin_bswap16(port)

BPF_ARRAY(left_out, u64, 1);

static inline void leave_out(void)
{
    int zero = 0;
    u64 *count = left_out.lookup(&zero);

    if (count)
        __sync_fetch_and_add(count, 1);
}
"""

DROPS = """
struct drop {
    u64 location;
    u32 reason;
    u16 type;     /* of Ethernet */
    u16 port;     /* destination, network order */
    u8 dest[16];
    u8 protocol;
    u8 pad[7];
};

/* Not in the key: a flood has many of them. */
struct dropped {
    u64 packets;
    u8 source[16]; /* of one of them */
};

BPF_HASH(drops, struct drop, struct dropped, 4096);

static inline void read_flow(struct drop *drop, struct dropped *dropped, unsigned char *at)
{
    u16 offset = 0;
    u8 first = 0;

    bpf_probe_read_kernel(&first, 1, at);
    if (drop->type == 0x0800) {
        bpf_probe_read_kernel(&offset, 2, at + 6);
        bpf_probe_read_kernel(&drop->protocol, 1, at + 9);
        bpf_probe_read_kernel(dropped->source, 4, at + 12);
        bpf_probe_read_kernel(drop->dest, 4, at + 16);
        at += (first & 15) * 4;
    } else {
        bpf_probe_read_kernel(&drop->protocol, 1, at + 6);
        bpf_probe_read_kernel(dropped->source, 16, at + 8);
        bpf_probe_read_kernel(drop->dest, 16, at + 24);
        at += 40;
    }
    if ((drop->protocol == 6 || drop->protocol == 17 || drop->protocol == 132) &&
        !(offset & NETWORK_ORDER(0x1fff)))
        bpf_probe_read_kernel(&drop->port, 2, at + 2);
}

RAW_TRACEPOINT_PROBE(kfree_skb)
{
    void *skb = (void *)ctx->args[0];
    struct dropped dropped = { .packets = 1 }, *before;
    struct drop drop = {};
    unsigned char *head;
    u16 network, type;

    GET(type, skb, sk_buff_protocol);
    drop.type = __builtin_bswap16(type);
    if (drop.type != 0x0800 && drop.type != 0x86dd)
        return 0;
    GET(head, skb, sk_buff_head);
    GET(network, skb, sk_buff_network_header);
    if (network == (u16)~0)
        return 0;
    read_flow(&drop, &dropped, head + network);
    if (!wants(drop.dest, drop.port, drop.protocol))
        return 0;
    drop.location = ctx->args[1];
    drop.reason = ctx->args[2];
    before = drops.lookup(&drop);
    if (before)
        __sync_fetch_and_add(&before->packets, 1);
    else if (drops.update(&drop, &dropped))
        leave_out();
    return 0;
}

struct xdp_trouble {
    u32 kind; /* 0: exception, 1: redirect, 2: not sent */
    int what; /* enum xdp_action, or errno */
    u32 ifindex;
    u32 pad;
};

BPF_HASH(xdp_troubles, struct xdp_trouble, u64, 256);

static inline void note_trouble(void *dev, u32 kind, int what, u64 packets)
{
    struct xdp_trouble trouble = { .kind = kind, .what = what };
    u64 *count;

    GET(trouble.ifindex, dev, net_device_ifindex);
    count = xdp_troubles.lookup(&trouble);
    if (count)
        __sync_fetch_and_add(count, packets);
    else if (xdp_troubles.update(&trouble, &packets))
        leave_out();
}

RAW_TRACEPOINT_PROBE(xdp_exception)
{
    note_trouble((void *)ctx->args[0], 0, (int)ctx->args[2], 1);
    return 0;
}

RAW_TRACEPOINT_PROBE(xdp_redirect_err)
{
    note_trouble((void *)ctx->args[0], 1, (int)ctx->args[3], 1);
    return 0;
}

RAW_TRACEPOINT_PROBE(xdp_devmap_xmit)
{
    int drops = (int)ctx->args[3];

    if (drops > 0)
        note_trouble((void *)ctx->args[1], 2, (int)ctx->args[4], drops);
    return 0;
}
"""
