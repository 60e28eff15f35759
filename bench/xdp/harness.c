// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

#define CASES 512
#define FLOWS_OF_A_CASE (1ULL << 26) /* no two cases have a new flow in common */
#define ATTEMPTS 4		     /* measurements until one is quiet */
#define QUICK_PART 8		     /* of the packets */
#define BUSY_TICKS 2		     /* of other processors in 100 ms: idle enough to begin */
#define BUSY_SHARE 10		     /* percent of their time while measuring */

static struct bench_case cases[CASES];
static int case_count;
static char replay_path[512];
static int my_cpu;
static unsigned int my_ifindex;

void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

/* ------------------------------------------------------------- objects */

struct bpf_object *open_object(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;

	if (!object)
		die("cannot open %s: %s", path, strerror(errno));
	bpf_object__for_each_program(program,
				     object) if (bpf_program__type(program) == BPF_PROG_TYPE_XDP)
		bpf_program__set_flags(program, BPF_F_XDP_HAS_FRAGS);
	return object;
}

int program_of(const struct bpf_object *object, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, name);

	if (!program)
		die("no program %s", name);
	return bpf_program__fd(program);
}

void set_entries(struct bpf_object *object, const char *map, uint32_t entries)
{
	if (bpf_map__set_max_entries(bpf_object__find_map_by_name(object, map), entries))
		die("cannot size map %s", map);
}

int map_of(const struct bpf_object *object, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);

	if (!map)
		die("no map %s", name);
	return bpf_map__fd(map);
}

void *variable(struct bpf_object *object, const char *section, const char *name)
{
	const struct btf *btf = bpf_object__btf(object);
	const struct btf_type *type =
		btf__type_by_id(btf, btf__find_by_name_kind(btf, section, BTF_KIND_DATASEC));
	const struct btf_var_secinfo *at = btf_var_secinfos(type);
	size_t size;
	char *base = (char *)bpf_map__initial_value(bpf_object__find_map_by_name(object, section),
						    &size);
	int i;

	for (i = 0; i < btf_vlen(type); i++, at++) {
		const struct btf_type *v = btf__type_by_id(btf, at->type);

		if (!strcmp(btf__name_by_offset(btf, v->name_off), name))
			return base + at->offset;
	}
	die("no variable %s in %s", name, section);
}

/* ------------------------------------------------------------- the place */

/*
 * A pair of interfaces in a namespace of our own: packets come in on one, and the FIB knows a way
 * back to the clients through it, which is what answers are sent by.
 */
static void make_network(const char *pass_object)
{
	static const char *const commands[] = {
		"ip link set lo up",
		"ip link add bench0 type veth peer name bench1",
		"ip link set bench0 up",
		"ip link set bench1 up",
		"ip addr add 10.255.0.1/24 dev bench0",
		"ip -6 addr add fd01::1/64 dev bench0 nodad",
		"ip neigh add 10.255.0.2 lladdr 02:00:00:00:00:aa dev bench0",
		"ip neigh add fd01::2 lladdr 02:00:00:00:00:aa dev bench0",
		"ip route add 0.0.0.0/1 via 10.255.0.2",
		"ip -6 route add fd00::/64 via fd01::2",
		"echo 1 > /proc/sys/net/ipv4/ip_forward",
		"echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
	};
	struct bpf_program *program;
	struct bpf_object *pass;
	unsigned int i;

	if (unshare(CLONE_NEWNET))
		die("cannot make a network namespace: %s", strerror(errno));
	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (system(commands[i]))
			die("failed: %s", commands[i]);
	my_ifindex = if_nametoindex("bench0");
	/* a test run may name an interface only if its queues are ready for XDP */
	pass = open_object(pass_object);
	bpf_object__for_each_program(program, pass)
		bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), "floor_tx"));
	if (bpf_object__load(pass) ||
	    bpf_xdp_attach(my_ifindex, program_of(pass, "floor_tx"), 0, NULL))
		die("cannot attach to bench0");
}

void harness_open(const struct options *options)
{
	struct sched_param real_time = { .sched_priority = 50 };
	char path[512];
	cpu_set_t set;

	my_cpu = options->cpu;
	CPU_ZERO(&set);
	CPU_SET(my_cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("cannot run on processor %d: %s", my_cpu, strerror(errno));
	snprintf(path, sizeof(path), "%s/floor.bpf.o", options->objects);
	make_network(path);
	if (sched_setscheduler(0, SCHED_FIFO, &real_time))
		die("cannot become SCHED_FIFO: %s", strerror(errno));
	mlockall(MCL_CURRENT);
	snprintf(replay_path, sizeof(replay_path), "%s/replay.bpf.o", options->objects);
}

unsigned int ingress(void)
{
	return my_ifindex;
}

static int test_run(int program, uint8_t *in, int length, uint8_t *out, int *out_length, int repeat,
		    uint32_t *kernel_ns)
{
	struct xdp_md context = { .data_end = length, .ingress_ifindex = my_ifindex }, left;
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in, .data_size_in = length, .data_out = out,
		    .data_size_out = out ? FRAME_SIZE : 0, .ctx_in = &context,
		    .ctx_size_in = sizeof(context), .ctx_out = &left, .ctx_size_out = sizeof(left),
		    .repeat = repeat);

	if (bpf_prog_test_run_opts(program, &o))
		die("test run: %s", strerror(errno));
	if (out_length)
		*out_length = o.data_size_out;
	if (kernel_ns)
		*kernel_ns = o.duration;
	return o.retval;
}

int run_once(int program, uint8_t *frame, int *length)
{
	uint8_t out[FRAME_SIZE];
	int out_length, returned = test_run(program, frame, *length, out, &out_length, 1, NULL);

	memcpy(frame, out, out_length);
	*length = out_length;
	return returned;
}

/* ------------------------------------------------------------- cases */

static struct bpf_object *load_replay(struct bench_case *c)
{
	const bool four = c->packet.family == 4;
	struct bpf_object *object = open_object(replay_path);
	uint8_t frame[FRAME_SIZE];
	uint32_t zero = 0;

	bpf_program__set_autoload(
		bpf_object__find_program_by_name(object, four ? "replay6" : "replay4"), false);
	*(uint32_t *)variable(object, ".rodata", "frame_length") = frame_of(&c->packet, frame);
	memcpy(variable(object, ".rodata", "frame"), frame, TEMPLATE_SIZE);
	*(uint32_t *)variable(object, ".rodata", "flow_mask") = c->traffic->flow_mask;
	*(bool *)variable(object, ".rodata", "answers") = c->traffic->answers;
	if (bpf_object__load(object))
		die("replay does not load");
	c->replay = program_of(object, four ? "replay4" : "replay6");
	if (bpf_map_update_elem(map_of(object, "target"), &zero, &c->program, 0))
		die("%s %s: prog array: %s", c->target, c->label, strerror(errno));
	c->state = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED,
			map_of(object, ".bss"), 0);
	if (c->state == MAP_FAILED)
		die("cannot map the state of replay: %s", strerror(errno));
	return object;
}

struct bench_case *add_case(struct bench_case given)
{
	static uint64_t flows_given = FLOWS_OF_A_CASE; /* flood() has the first ones */
	struct bench_case *c = &cases[case_count++];

	if (case_count == CASES)
		die("too many cases");
	*c = given;
	c->number = case_count;
	if (!c->n)
		c->n = c->traffic->n;
	load_replay(c);
	if (c->traffic->flow_mask == NEW_FLOWS) {
		c->state->flow_seq = flows_given;
		flows_given += FLOWS_OF_A_CASE;
	}
	return c;
}

static int replay(struct bench_case *c, uint64_t n, uint8_t *out, int *length, uint32_t *kernel_ns)
{
	uint8_t frame[FRAME_SIZE];
	int in_length = frame_of(&c->packet, frame);

	return test_run(c->replay, frame, in_length, out, length, n, kernel_ns);
}

void pump(struct bench_case *c, uint64_t n)
{
	c->state->seq = 1;
	c->state->mark_last = ~0ULL;
	if (n)
		replay(c, n, NULL, NULL, NULL);
}

void flood(int program, const struct traffic *traffic, struct packet packet, uint64_t n)
{
	struct bench_case c = { .target = "flood",
				.label = "",
				.traffic = traffic,
				.packet = packet,
				.program = program };
	struct bpf_object *object = load_replay(&c);

	pump(&c, n);
	munmap(c.state, getpagesize());
	bpf_object__close(object);
}

void back(struct bench_case *c, uint64_t n)
{
	c->state->flow_seq -= n;
}

static void show(const uint8_t *frame, int length)
{
	int i;

	for (i = 0; i < length && i < 100; i++)
		printf("%s%02x", i == 14 || i == 34 || i == 54 || i == 74 ? " " : "", frame[i]);
	printf("\n");
}

bool check_cases(bool verbose)
{
	bool good = true;
	int i;

	for (i = 0; i < case_count; i++) {
		struct bench_case *c = &cases[i];
		uint8_t frame[FRAME_SIZE], out[FRAME_SIZE];
		int length = frame_of(&c->packet, frame), out_length, returned;
		const char *fault;

		if (c->before)
			c->before(c);
		returned = run_once(c->program, frame, &length);
		fault = frame_fault(c->want, &c->packet, frame, length, returned);
		/* and behind replay, when others have gone before it */
		if (!fault) {
			returned = replay(c, 1000, out, &out_length, NULL);
			if (returned != return_wanted(c->want) ||
			    out_length != length_wanted(c->want, &c->packet))
				fault = "another outcome behind replay";
		}
		if (!fault && c->confirm)
			fault = c->confirm(c);
		if (fault)
			good = false;
		if (fault || verbose) {
			printf("%s, %s, %s: %s (returned %d, length %d)\n", c->target,
			       c->traffic->name, c->label, fault ? fault : "as it must be",
			       returned, length);
			show(frame, length);
		}
	}
	return good;
}

/* ------------------------------------------------------------- measuring */

struct cpu_time {
	uint64_t busy, all, steal;
};

static void read_stat(struct cpu_time *mine, struct cpu_time *others)
{
	FILE *file = fopen("/proc/stat", "r");
	char line[512];

	memset(mine, 0, sizeof(*mine));
	memset(others, 0, sizeof(*others));
	while (file && fgets(line, sizeof(line), file)) {
		unsigned long long v[8];
		struct cpu_time *of;
		int cpu, i;

		if (sscanf(line, "cpu%d %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, v, v + 1,
			   v + 2, v + 3, v + 4, v + 5, v + 6, v + 7) != 9)
			continue;
		of = cpu == my_cpu ? mine : others;
		for (i = 0; i < 8; i++)
			of->all += v[i];
		of->busy += v[0] + v[1] + v[2] + v[5] + v[6];
		of->steal += v[7];
	}
	if (file)
		fclose(file);
}

/* Until the other processors have been idle for 100 ms; not for ever. */
static bool wait_until_quiet(int seconds)
{
	struct cpu_time before, after, mine;
	int i;

	for (i = 0; i < seconds * 10; i++) {
		read_stat(&mine, &before);
		usleep(100000);
		read_stat(&mine, &after);
		if (after.busy - before.busy <= BUSY_TICKS)
			return true;
	}
	return false;
}

/* Measures once; false: other processors were busy meanwhile. */
static bool measure(struct bench_case *c, int round, const struct options *options, FILE *csv)
{
	bool quiet = wait_until_quiet(options->patience);
	uint64_t n = options->quick ? c->n / QUICK_PART : c->n;
	struct cpu_time my_before, before, my_after, after;
	const char *fault = NULL;
	uint8_t out[FRAME_SIZE];
	uint32_t kernel_ns;
	int returned, length;
	double ns, busy;

	if (c->before)
		c->before(c);
	pump(c, c->traffic->flow_mask == NEW_FLOWS && n < c->traffic->warm ? n : c->traffic->warm);
	if (c->start)
		c->start(c);
	read_stat(&my_before, &before);
	c->state->seq = 0;
	c->state->mark_last = n;
	c->state->t_first = c->state->t_last = 0;
	returned = replay(c, n + 1, out, &length, &kernel_ns);
	read_stat(&my_after, &after);
	if (returned != return_wanted(c->want) || length != length_wanted(c->want, &c->packet))
		fault = "outcome";
	if (!fault && c->fault)
		fault = c->fault(c, n + 1);
	if (fault)
		die("%s, %s, %s: measured something else: %s (returned %d, length %d)", c->target,
		    c->traffic->name, c->label, fault, returned, length);
	ns = (double)(c->state->t_last - c->state->t_first) / n;
	busy = after.all > before.all ?
		       100.0 * (after.busy - before.busy) / (after.all - before.all) :
		       0;
	quiet = quiet && busy <= BUSY_SHARE;
	fprintf(csv, "%d,%s,%s,%s,%s,%.2f,%.3f,%u,%llu,%.0f,%llu,%d\n", round, c->target,
		c->traffic->name, c->label, c->floor ? c->floor : "", c->bar, ns, kernel_ns,
		(unsigned long long)n, busy, (unsigned long long)(my_after.steal - my_before.steal),
		quiet);
	fflush(csv);
	return quiet;
}

static int by_traffic(const void *a, const void *b)
{
	const struct bench_case *one = a, *other = b;

	/* traffics lie in one array; cases of one keep their order */
	if (one->traffic != other->traffic)
		return one->traffic < other->traffic ? -1 : 1;
	return one->number - other->number;
}

void run_cases(const struct options *options)
{
	FILE *csv = fopen(options->csv, "w");
	int round, i, attempt;

	if (!csv)
		die("cannot write %s: %s", options->csv, strerror(errno));
	/* what is compared is measured one after the other: the machine is the same for all of it
	 */
	qsort(cases, case_count, sizeof(*cases), by_traffic);
	fprintf(csv, "round,target,traffic,label,floor,bar,ns,kernel_ns,n,busy,steal,quiet\n");
	for (round = 0; round < options->rounds; round++) {
		for (i = 0; i < case_count; i++)
			for (attempt = 0; attempt < ATTEMPTS; attempt++)
				if (measure(&cases[i], round, options, csv) || !options->patience)
					break;
		fprintf(stderr, "round %d of %d, %d cases\n", round + 1, options->rounds,
			case_count);
	}
	fclose(csv);
}
