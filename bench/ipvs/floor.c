// floor add|edit|dump SERVICES SERVERS SCHEDULER WINDOW
//
// The least that programming IPVS can cost: generic netlink by hand, WINDOW requests in one send,
// an acknowledgement asked of the last only. Same rules and same order as program.py: service i
// is 10.(100 + i/250).(i%250 + 1).1:80, and its servers are numbered on through 127.0.0.0/8.
// Prints one line: operations, seconds, errors. Exit code 1 if any operation was refused.
#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BUFFER (1 << 20)

static int sock, family, window;
static unsigned int sequence;
static char out[BUFFER];
static size_t used;
static int queued;
static long errors, dumped;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void put(int type, const void *data, int length)
{
	struct nlattr *attr = (void *)(out + used);
	int padded = NLA_ALIGN(length);

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + length;
	memcpy((char *)attr + NLA_HDRLEN, data, length);
	memset((char *)attr + NLA_HDRLEN + length, 0, padded - length);
	used += NLA_HDRLEN + padded;
}

static void put16(int type, unsigned short value)
{
	put(type, &value, sizeof(value));
}

static void put32(int type, unsigned int value)
{
	put(type, &value, sizeof(value));
}

static struct nlattr *nest(int type)
{
	struct nlattr *attr = (void *)(out + used);

	attr->nla_type = type;
	used += NLA_HDRLEN;
	return attr;
}

static void unnest(struct nlattr *attr)
{
	attr->nla_len = out + used - (char *)attr;
}

static struct nlmsghdr *begin(int type, int flags, int command)
{
	struct nlmsghdr *header = (void *)(out + used);
	struct genlmsghdr *generic = NLMSG_DATA(header);

	memset(header, 0, NLMSG_HDRLEN + GENL_HDRLEN);
	header->nlmsg_type = type;
	header->nlmsg_flags = NLM_F_REQUEST | flags;
	header->nlmsg_seq = ++sequence;
	generic->cmd = command;
	generic->version = IPVS_GENL_VERSION;
	used += NLMSG_HDRLEN + GENL_HDRLEN;
	return header;
}

static void end(struct nlmsghdr *header)
{
	header->nlmsg_len = out + used - (char *)header;
}

static void receive(void)
{
	static char in[BUFFER];

	for (;;) {
		ssize_t got = recv(sock, in, sizeof(in), 0);
		struct nlmsghdr *header = (void *)in;

		if (got < 0)
			die("recv");
		for (; NLMSG_OK(header, got); header = NLMSG_NEXT(header, got)) {
			if (header->nlmsg_type == NLMSG_ERROR) {
				errors += ((struct nlmsgerr *)NLMSG_DATA(header))->error != 0;
				if (header->nlmsg_seq == sequence)
					return;
			} else if (header->nlmsg_type == NLMSG_DONE) {
				return;
			} else {
				dumped++;
			}
		}
	}
}

static void flush(void)
{
	if (send(sock, out, used, 0) != (ssize_t)used)
		die("send");
	used = queued = 0;
	receive();
}

static void finish(struct nlmsghdr *header, int last)
{
	last |= ++queued >= window;
	if (last)
		header->nlmsg_flags |= NLM_F_ACK;
	end(header);
	if (last)
		flush();
}

static void service(int i, const char *scheduler)
{
	struct nlattr *attr = nest(IPVS_CMD_ATTR_SERVICE);
	unsigned char address[16] = { 10, 100 + i / 250, i % 250 + 1, 1 };
	struct ip_vs_flags flags = { 0, ~0 };

	put16(IPVS_SVC_ATTR_AF, AF_INET);
	put16(IPVS_SVC_ATTR_PROTOCOL, IPPROTO_TCP);
	put(IPVS_SVC_ATTR_ADDR, address, sizeof(address));
	put16(IPVS_SVC_ATTR_PORT, htons(80));
	if (scheduler) {
		put(IPVS_SVC_ATTR_SCHED_NAME, scheduler, strlen(scheduler) + 1);
		put(IPVS_SVC_ATTR_FLAGS, &flags, sizeof(flags));
		put32(IPVS_SVC_ATTR_TIMEOUT, 0);
		put32(IPVS_SVC_ATTR_NETMASK, ~0);
	}
	unnest(attr);
}

static void server(int k, unsigned int weight)
{
	struct nlattr *attr = nest(IPVS_CMD_ATTR_DEST);
	unsigned char address[16] = { 127, 1 + k / 62500, k / 250 % 250, k % 250 + 1 };

	put(IPVS_DEST_ATTR_ADDR, address, sizeof(address));
	put16(IPVS_DEST_ATTR_PORT, htons(8080));
	put32(IPVS_DEST_ATTR_WEIGHT, weight);
	put16(IPVS_DEST_ATTR_ADDR_FAMILY, AF_INET);
	put32(IPVS_DEST_ATTR_FWD_METHOD, IP_VS_CONN_F_MASQ);
	put32(IPVS_DEST_ATTR_U_THRESH, 0);
	put32(IPVS_DEST_ATTR_L_THRESH, 0);
	unnest(attr);
}

static void write_all(int command, int services, int servers, const char *scheduler)
{
	struct nlmsghdr *header;
	int i, j;

	for (i = 0; i < services; i++) {
		if (command == IPVS_CMD_NEW_DEST) {
			header = begin(family, 0, IPVS_CMD_NEW_SERVICE);
			service(i, scheduler);
			finish(header, i == services - 1 && !servers);
		}
		for (j = 0; j < servers; j++) {
			header = begin(family, 0, command);
			service(i, NULL);
			server(i * servers + j, command == IPVS_CMD_NEW_DEST ? 1 : 2);
			finish(header, i == services - 1 && j == servers - 1);
		}
	}
}

static void dump_all(int services)
{
	struct nlmsghdr *header;
	int i;

	header = begin(family, NLM_F_DUMP, IPVS_CMD_GET_SERVICE);
	end(header);
	flush();
	for (i = 0; i < services; i++) {
		header = begin(family, NLM_F_DUMP, IPVS_CMD_GET_DEST);
		service(i, NULL);
		end(header);
		flush();
	}
}

static void open_socket(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	struct nlmsghdr *header;
	struct nlattr *attr;
	char in[8192];
	int size = 1 << 22, one = 1;
	ssize_t got;

	sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	if (sock < 0 || bind(sock, (void *)&address, sizeof(address)))
		die("socket");
	setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(sock, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	header = begin(GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY);
	put(CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME, sizeof(IPVS_GENL_NAME));
	end(header);
	if (send(sock, out, used, 0) < 0)
		die("send");
	used = 0;
	got = recv(sock, in, sizeof(in), 0);
	attr = (void *)(in + NLMSG_HDRLEN + GENL_HDRLEN);
	for (; (char *)attr < in + got; attr = (void *)((char *)attr + NLA_ALIGN(attr->nla_len))) {
		if (attr->nla_len < NLA_HDRLEN)
			break;
		if (attr->nla_type == CTRL_ATTR_FAMILY_ID)
			family = *(unsigned short *)((char *)attr + NLA_HDRLEN);
	}
	if (!family) {
		fprintf(stderr, "no IPVS in this kernel\n");
		exit(2);
	}
}

int main(int count, char **words)
{
	int services, servers;
	double start;
	long done;

	if (count != 6) {
		fprintf(stderr, "floor add|edit|dump SERVICES SERVERS SCHEDULER WINDOW\n");
		return 2;
	}
	services = atoi(words[2]);
	servers = atoi(words[3]);
	window = atoi(words[5]);
	open_socket();
	start = now();
	done = (long)services * servers + services;
	if (!strcmp(words[1], "add"))
		write_all(IPVS_CMD_NEW_DEST, services, servers, words[4]);
	else if (!strcmp(words[1], "edit"))
		write_all(IPVS_CMD_SET_DEST, services, servers, words[4]);
	else
		dump_all(services);
	printf("%ld %.6f %ld\n", dumped ? dumped : done, now() - start, errors);
	return errors != 0;
}
