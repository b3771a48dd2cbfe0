/*
 * `r2fs umount`: waits for the uploads that are owed, unmounts and waits until
 * the daemon has ended, so that a script may mount again at once on the same
 * cache folder.
 *
 * The end is seen through a pidfd taken before the unmount: a daemon whose
 * parent does not reap it (a container without an init) keeps its number, and
 * a number can be given to another process.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/control.h"

enum { WAIT_S = 90, POLL_MS = 200, SAY_MS = 5000 };

static pid_t daemon_pid(const char *mountpoint)
{
	struct buf answer;
	const char *p;
	pid_t pid = 0;

	buf_init(&answer, 1 << 20);
	if (control_ask(mountpoint, "status", &answer) == 0 &&
	    (p = strstr(answer.data, "\"pid\": ")))
		pid = atoi(p + 7);
	buf_release(&answer);
	return pid;
}

static int ask_number(const char *mountpoint, const char *command)
{
	struct buf answer;
	int n = 0;

	buf_init(&answer, 1 << 20);
	if (control_ask(mountpoint, command, &answer) == 0)
		n = atoi(answer.data);
	buf_release(&answer);
	return n;
}

/* Until nothing is owed, however long R2 takes: interrupting loses nothing. */
static void drain(const char *mountpoint)
{
	int left = ask_number(mountpoint, "drain"), said = -1;

	for (unsigned ms = 0; left > 0; ms += POLL_MS) {
		if (ms % SAY_MS == SAY_MS - POLL_MS && left != said) {
			fprintf(stderr,
				"r2fs umount: %d upload%s owed; waiting "
				"(--force leaves them to the next mount)\n",
				left, left == 1 ? " is" : "s are");
			said = left;
		}
		usleep(POLL_MS * 1000);
		left = ask_number(mountpoint, "drain");
	}
}

static int run_fusermount(const char *mountpoint)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "--", mountpoint,
		       NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int detach(const char *mountpoint)
{
	if (geteuid() != 0)
		return run_fusermount(mountpoint);
	return umount2(mountpoint, UMOUNT_NOFOLLOW) ? -errno : 0;
}

static int watch(pid_t pid)
{
	return pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static bool wait_gone(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return pidfd < 0 || poll(&p, 1, WAIT_S * 1000) == 1;
}

static int explain(const char *path, int err)
{
	if (err == -EBUSY)
		fprintf(stderr,
			"r2fs umount: %s is in use: see which processes with "
			"fuser -vm %s, or detach it with umount -l %s\n",
			path, path, path);
	else if (err == -EINVAL)
		fprintf(stderr, "r2fs umount: nothing is mounted on %s\n",
			path);
	else
		fprintf(stderr, "r2fs umount: cannot unmount %s: %s\n", path,
			strerror(-err));
	return 1;
}

int cli_umount(int argc, char **argv)
{
	bool force = argc == 3 && strcmp(argv[1], "--force") == 0;
	const char *path = argc == 2 + force ? argv[1 + force] : NULL;
	bool gone;
	pid_t pid;
	int err, pidfd;

	if (!path || path[0] == '-') {
		fprintf(stderr, "usage: r2fs umount [--force] MOUNTPOINT\n");
		return path && !strcmp(path, "--help") ? 0 : 2;
	}
	if (force)
		ask_number(path, "leave");
	else
		drain(path);
	pid = daemon_pid(path);
	pidfd = watch(pid);
	err = detach(path);
	gone = err || wait_gone(pidfd);
	if (pidfd >= 0)
		close(pidfd);
	if (err)
		return explain(path, err);
	if (gone)
		return 0;
	fprintf(stderr,
		"r2fs umount: %s is unmounted, but the daemon (pid %d) is "
		"still running after %d s\n",
		path, (int)pid, WAIT_S);
	return 1;
}
