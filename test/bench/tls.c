/*
 * TLS in front of a server that speaks none, so that the cost of TLS is
 * measured with everything else the same: takes connections on a port of the
 * loopback and passes their bytes on to another port, unread.
 *
 *	tls CERTIFICATE KEY PORT	prints "listening PORT"
 *
 * One thread a connection; requests and answers alternate, so neither
 * direction waits for the other. Ends with the process that started it.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { BUFFER = 1 << 17 };

static SSL_CTX *context;
static int server_port;

static void die(const char *what)
{
	fprintf(stderr, "tls: %s\n", what);
	exit(2);
}

static struct sockaddr_in loopback(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port) };

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static int connect_to_server(void)
{
	struct sockaddr_in a = loopback(server_port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static bool send_all(int fd, const char *buf, int n)
{
	while (n > 0) {
		ssize_t sent = send(fd, buf, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		buf += sent;
		n -= sent;
	}
	return true;
}

static bool to_server(SSL *ssl, int fd, char *buf)
{
	int n;

	do {
		n = SSL_read(ssl, buf, BUFFER);
		if (n <= 0 || !send_all(fd, buf, n))
			return false;
	} while (SSL_pending(ssl));
	return true;
}

static bool to_client(SSL *ssl, int fd, char *buf)
{
	ssize_t n = recv(fd, buf, BUFFER, 0);

	return n > 0 && SSL_write(ssl, buf, n) == n;
}

static void relay(SSL *ssl, int client, int server)
{
	struct pollfd p[2] = { { .fd = client, .events = POLLIN },
			       { .fd = server, .events = POLLIN } };
	char *buf = malloc(BUFFER);
	bool up = buf != NULL;

	while (up && poll(p, 2, -1) > 0) {
		if (p[0].revents)
			up = to_server(ssl, server, buf);
		if (up && p[1].revents)
			up = to_client(ssl, server, buf);
	}
	free(buf);
}

static void *serve(void *arg)
{
	int client = (int)(long)arg, server = connect_to_server(), on = 1;
	SSL *ssl = SSL_new(context);

	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (server >= 0 && ssl && SSL_set_fd(ssl, client) &&
	    SSL_accept(ssl) == 1)
		relay(ssl, client, server);
	SSL_free(ssl);
	close(client);
	if (server >= 0)
		close(server);
	return NULL;
}

static int listen_anywhere(void)
{
	struct sockaddr_in a = loopback(0);
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) ||
	    listen(fd, 1024) || getsockname(fd, (struct sockaddr *)&a, &len))
		die("cannot listen");
	printf("listening %d\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	pthread_attr_t detached;
	pthread_t t;
	int fd, client;

	if (argc != 4)
		die("usage: tls CERTIFICATE KEY PORT");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	server_port = atoi(argv[3]);
	context = SSL_CTX_new(TLS_server_method());
	if (!context ||
	    SSL_CTX_use_certificate_file(context, argv[1], SSL_FILETYPE_PEM) !=
		    1 ||
	    SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) !=
		    1)
		die("cannot use the certificate or its key");
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	fd = listen_anywhere();
	while ((client = accept(fd, NULL, NULL)) >= 0)
		if (pthread_create(&t, &detached, serve, (void *)(long)client))
			close(client);
	return 1;
}
