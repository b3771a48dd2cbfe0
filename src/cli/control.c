/*
 * A socket rather than files inside the mount: it answers while the mount
 * itself hangs, which is when one asks.
 *
 * The mountpoint's path is the socket's name with '/' spelled "%2F". A socket
 * address holds 107 bytes; for a longer one the name is a hash, and a file
 * beside it, NAME.path, says of what.
 */
#include "cli/control.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fsio.h"
#include "base/map.h"

enum { ANSWER_MAX = 1 << 20, TIMEOUT_MS = 10000 };

struct control {
	int fd;
	int stop[2];
	pthread_t thread;
	int (*handle)(const char *cmd, struct buf *out, void *arg);
	void *arg;
	struct sockaddr_un address;
};

static char *folder(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		return xstrdup("/run/r2fs");
	if (run && *run)
		return xasprintf("%s/r2fs", run);
	return xasprintf("/tmp/r2fs-%u", (unsigned)geteuid());
}

static bool add_name(struct buf *b, const char *path)
{
	for (const char *p = path; *p; p++)
		buf_addstr(b, *p == '/' ? "%2F" : (char[]){ *p, 0 });
	return b->len < sizeof(((struct sockaddr_un *)0)->sun_path);
}

static int socket_address(const char *mountpoint, struct sockaddr_un *a)
{
	CLEANUP(free) char *dir = folder();
	CLEANUP(free) char *path = realpath(mountpoint, NULL);
	const char *name = path ? path : mountpoint;
	struct buf b;
	int err;

	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	buf_init(&b, 65536);
	buf_addf(&b, "%s/", dir);
	if (!add_name(&b, name)) {
		buf_reset(&b);
		buf_addf(&b, "%s/#%016llx", dir,
			 (unsigned long long)hash_bytes(name, strlen(name), 0));
	}
	err = b.failed || b.len >= sizeof(a->sun_path) ? -ENAMETOOLONG : 0;
	if (!err)
		memcpy(a->sun_path, b.data, b.len);
	buf_release(&b);
	return err;
}

/* The file beside a socket whose name is a hash; NULL for others. */
static char *path_file(const struct sockaddr_un *a)
{
	const char *name = strrchr(a->sun_path, '/');

	return name && name[1] == '#' ? xasprintf("%s.path", a->sun_path) :
					NULL;
}

static void note_path(const struct sockaddr_un *a, const char *mountpoint)
{
	CLEANUP(free) char *note = path_file(a);
	FILE *f = note ? fopen(note, "we") : NULL;

	if (f) {
		fputs(mountpoint, f);
		fclose(f);
	}
}

static void remove_socket(const struct sockaddr_un *a)
{
	CLEANUP(free) char *note = path_file(a);

	unlink(a->sun_path);
	if (note)
		unlink(note);
}

static void serve_one(struct control *c, int fd)
{
	char line[256];
	ssize_t n = recv(fd, line, sizeof(line) - 1, 0);
	struct buf out;

	if (n <= 0)
		return;
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	buf_init(&out, ANSWER_MAX);
	if (c->handle(line, &out, c->arg))
		buf_addf(&out, "{\"error\": \"unknown command\"}");
	for (size_t at = 0; at < out.len;) {
		n = send(fd, out.data + at, out.len - at, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		at += n;
	}
	buf_release(&out);
}

static void *serve(void *arg)
{
	struct control *c = arg;
	struct pollfd p[2] = { { c->fd, POLLIN, 0 },
			       { c->stop[0], POLLIN, 0 } };
	struct timeval limit = { .tv_sec = TIMEOUT_MS / 1000 };

	while (poll(p, 2, -1) >= 0 && !p[1].revents) {
		int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		serve_one(c, fd);
		close(fd);
	}
	return NULL;
}

int control_create(const char *mountpoint,
		   int (*handle)(const char *cmd, struct buf *out, void *arg),
		   void *arg, struct control **ret)
{
	struct control *c = xcalloc(1, sizeof(*c));
	CLEANUP(free) char *dir = folder();
	int err = fsio_mkdirs(dir);

	c->handle = handle;
	c->arg = arg;
	c->stop[0] = c->stop[1] = -1;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!err)
		err = socket_address(mountpoint, &c->address);
	if (!err)
		unlink(c->address.sun_path);
	if (!err &&
	    (c->fd < 0 ||
	     bind(c->fd, (struct sockaddr *)&c->address, sizeof(c->address)) ||
	     listen(c->fd, 16) || pipe2(c->stop, O_CLOEXEC)))
		err = -errno;
	if (!err)
		note_path(&c->address, mountpoint);
	if (!err)
		err = -pthread_create(&c->thread, NULL, serve, c);
	if (err) {
		cleanup_fd(&c->fd);
		free(c);
		return err;
	}
	*ret = c;
	return 0;
}

void control_destroy(struct control *c)
{
	if (!c)
		return;
	close(c->stop[1]);
	pthread_join(c->thread, NULL);
	remove_socket(&c->address);
	close(c->fd);
	close(c->stop[0]);
	free(c);
}

int control_ask(const char *mountpoint, const char *cmd, struct buf *out)
{
	CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = { .tv_sec = TIMEOUT_MS / 1000 };
	struct sockaddr_un a;
	char block[4096];
	ssize_t n;
	int err = socket_address(mountpoint, &a);

	if (err)
		return err;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) ||
	    send(fd, cmd, strlen(cmd), MSG_NOSIGNAL) < 0)
		return errno == ECONNREFUSED ? -ENOENT : -errno;
	while ((n = recv(fd, block, sizeof(block), 0)) > 0)
		buf_add(out, block, n);
	return n < 0 ? -errno : 0;
}

/* What a socket's name stands for. */
static bool path_of(const char *dir, const char *name, struct buf *path)
{
	if (name[0] == '#') {
		CLEANUP(free) char *note = xasprintf("%s/%s.path", dir, name);
		FILE *f = fopen(note, "re");
		char block[4096];
		size_t n = f ? fread(block, 1, sizeof(block), f) : 0;

		if (f)
			fclose(f);
		buf_add(path, block, n);
		return n > 0;
	}
	for (const char *p = name; *p; p++) {
		if (strncmp(p, "%2F", 3) == 0) {
			buf_addch(path, '/');
			p += 2;
		} else {
			buf_addch(path, *p);
		}
	}
	return true;
}

void control_each(void (*fn)(const char *mountpoint, void *arg), void *arg)
{
	CLEANUP(free) char *dir = folder();
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		struct buf path;

		if (e->d_name[0] == '.' || e->d_type == DT_REG)
			continue;
		buf_init(&path, 8192);
		if (path_of(dir, e->d_name, &path))
			fn(path.data, arg);
		buf_release(&path);
	}
	if (d)
		closedir(d);
}
