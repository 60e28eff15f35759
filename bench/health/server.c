// Answers on many ports of 127.0.0.0/8 for the bench of probes: TCP connections are accepted; an
// HTTP request is answered with 200 and a short body, and the connection is closed after it.
//
//   server PORT
//
// One process, one epoll set. Prints "ready" when it listens.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, REQUEST = 4096 };

static const char answer[] = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
			     "Content-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int listen_on(int port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 65535))
		die("cannot listen");
	return fd;
}

static void serve(int fd)
{
	char request[REQUEST];
	ssize_t got = read(fd, request, sizeof(request));

	if (got > 0 && memmem(request, got, "\r\n\r\n", 4))
		got = send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) * 0;
	if (got <= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	struct epoll_event event = { .events = EPOLLIN }, events[BATCH];
	int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0), set = epoll_create1(0), count, i, fd;

	event.data.fd = listener;
	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, listener, &event))
		die("cannot watch");
	puts("ready");
	fflush(stdout);
	while ((count = epoll_wait(set, events, BATCH, -1)) >= 0)
		for (i = 0; i < count; i++) {
			if (events[i].data.fd != listener) {
				serve(events[i].data.fd);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				event.data.fd = fd;
				epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
			}
		}
	die("epoll_wait");
}
