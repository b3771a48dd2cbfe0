/*
 * Mounting, the loop, and the end.
 *
 * libfuse's own signal handlers would take SIGHUP for an exit and do not wake
 * threads that block in a read of /dev/fuse. One thread therefore waits for
 * signals; to end the session it marks it and sends one request of its own,
 * which wakes a FUSE thread that sees the mark and ends the others.
 *
 * libfuse before 3.17 never tells the kernel that lookups in one directory may
 * run side by side, whatever is wanted. The kernel then sends them one at a
 * time, and the others wait where no signal reaches them. With such a libfuse
 * the first exchange is made here: its answer goes through a pipe that stands
 * in the device's place for that moment, and gets the missing bit.
 */
#include "fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/capability.h>
#include <linux/fuse.h>
#include <linux/major.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "fuse/job.h"
#include "fuse/nodes.h"
#include "fuse/watch.h"

enum {
	PENDING_US = 1000,
	FUSE_MINOR = 229,
	RING_REQUESTS = 64, /* in all rings together */
};

struct session {
	const struct session_config *config;
	struct fuse_session *se;
	struct ops_context *context;
	pthread_t signals;
	pthread_key_t last_act; /* of the FUSE thread that got INIT, in rings */
	atomic_bool over;
};

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR2);
}

void session_block_signals(void)
{
	sigset_t set;

	signal_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGIO, SIG_IGN);
}

static void wake_loop(struct session *s)
{
	struct statvfs st;

	if (statvfs(s->config->mountpoint, &st))
		log_debug("session", "statfs at exit: %s", strerror(errno));
}

static void wait_for_replies(struct session *s)
{
	jobs_interrupt(s->context);
	s->config->ending(s->config->arg);
	while (__atomic_load_n(&s->context->pending, __ATOMIC_SEQ_CST))
		usleep(PENDING_US);
}

static void end_requests(struct session *s)
{
	__atomic_store_n(&s->context->closing, true, __ATOMIC_SEQ_CST);
	wait_for_replies(s);
}

/* When the kernel ends the session by itself (umount -f) there is no other
 * place between its word and the end of the rings, which waits for the FUSE
 * threads. */
static void on_thread_end(void *session)
{
	struct session *s = session;

	if (fuse_session_exited(s->se))
		end_requests(s);
}

static void on_ready(void *session, const struct session_features *features)
{
	struct session *s = session;

	if (features->io_uring)
		pthread_setspecific(s->last_act, s);
	s->config->ready(s->config->arg, features);
}

/* When libfuse ends its rings, their requests are gone: the last replies come
 * first. It wakes its loop itself then. */
static void end_session(struct session *s)
{
	bool rings = __atomic_load_n(&s->context->io_uring, __ATOMIC_RELAXED);

	if (rings)
		end_requests(s);
	fuse_session_exit(s->se);
	if (!rings)
		wake_loop(s);
}

static void *wait_for_signals(void *arg)
{
	struct session *s = arg;
	sigset_t set;
	int sig;

	signal_set(&set);
	while (sigwait(&set, &sig) == 0 && !atomic_load(&s->over)) {
		if (sig == SIGHUP) {
			s->config->hangup(s->config->arg);
		} else if (sig != SIGUSR2) {
			log_info("session", "signal %d: unmounting %s", sig,
				 s->config->mountpoint);
			end_session(s);
			break;
		}
	}
	return NULL;
}

static bool kernel_has_rings(void)
{
	FILE *f = fopen("/sys/module/fuse/parameters/enable_uring", "re");
	bool enabled = f && fgetc(f) == 'Y';

	if (f)
		fclose(f);
	return enabled;
}

static bool can_use_rings(void)
{
	if (fuse_version() < 318)
		log_info("session", "no io_uring: libfuse is %s, it takes 3.18",
			 fuse_pkgversion());
	else if (!kernel_has_rings())
		log_info("session",
			 "no io_uring: it takes Linux 6.14 and root's echo Y "
			 ">/sys/module/fuse/parameters/enable_uring");
	else
		return true;
	return false;
}

/* A ring for each processor, and a buffer of the largest write for each of its
 * requests, which becomes memory when it is used. */
static void add_rings(struct buf *b)
{
	long rings = sysconf(_SC_NPROCESSORS_CONF);
	long depth = rings > 0 ? RING_REQUESTS / rings : 0;

	buf_addf(b, ",io_uring,io_uring_q_depth=%ld", depth > 4 ? depth : 4);
}

static char *mount_options(const struct session_config *c, bool rings)
{
	struct buf b;

	buf_init(&b, 65536);
	buf_addf(&b,
		 "fsname=%s,subtype=r2fs,default_permissions,%s,nosuid,nodev",
		 c->source, c->read_only ? "ro" : "rw");
	if (c->allow_other)
		buf_addstr(&b, ",allow_other");
	if (c->mount_options && c->mount_options[0])
		buf_addf(&b, ",%s", c->mount_options);
	if (rings)
		add_rings(&b);
	return buf_detach(&b);
}

/* The answer to INIT in `out`, n bytes: allow parallel lookups. */
static void allow_parallel(const struct fuse_buf *in, char *out, ssize_t n)
{
	const struct fuse_in_header *ih = in->mem;
	const struct fuse_init_in *init = (const void *)(ih + 1);
	struct fuse_out_header *oh = (void *)out;
	struct fuse_init_out *answer = (void *)(oh + 1);

	if (ih->opcode == FUSE_INIT && in->size >= sizeof(*ih) + 16 &&
	    n >= (ssize_t)sizeof(*oh) + 16 && !oh->error)
		answer->flags |= init->flags & FUSE_PARALLEL_DIROPS;
}

/* Runs the session's first request with the device's end held by pipe_fd. */
static int answer_through(struct fuse_session *se, struct fuse_buf *in,
			  const int pipe_fds[2])
{
	int fd = fuse_session_fd(se), err = 0;
	int device = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	uint64_t aligned[512];
	char *out = (char *)aligned;
	ssize_t n;

	if (device < 0)
		return -errno;
	if (dup3(pipe_fds[1], fd, O_CLOEXEC) < 0) {
		err = -errno;
	} else {
		fuse_session_process_buf(se, in);
		n = read(pipe_fds[0], out, sizeof(aligned));
		allow_parallel(in, out, n);
		if (dup3(device, fd, O_CLOEXEC) < 0 || n <= 0 ||
		    write(fd, out, n) != n)
			err = -EIO;
	}
	close(device);
	return err;
}

static int first_exchange(struct fuse_session *se)
{
	struct fuse_buf in = { .mem = NULL };
	int pipe_fds[2], n, err = 0;

	if (fuse_version() >= 317)
		return 0;
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	do
		n = fuse_session_receive_buf(se, &in);
	while (n == -EINTR);
	if (n > 0)
		err = answer_through(se, &in, pipe_fds);
	else if (n < 0)
		err = n;
	free(in.mem);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return err;
}

static int loop(struct session *s)
{
#if FUSE_USE_VERSION >= 312
	const struct session_config *c = s->config;
	struct fuse_loop_config *lc = fuse_loop_cfg_create();

	fuse_loop_cfg_set_clone_fd(lc, 1);
	fuse_loop_cfg_set_idle_threads(lc, 16);
	fuse_loop_cfg_set_max_threads(lc, c->max_threads ? c->max_threads : 16);
	int err = fuse_session_loop_mt(s->se, lc);

	fuse_loop_cfg_destroy(lc);
#else
	struct fuse_loop_config lc = { .clone_fd = 1, .max_idle_threads = 16 };
	int err = fuse_session_loop_mt(s->se, &lc);
#endif
	return err;
}

static bool user_allow_other(void)
{
	FILE *f = fopen("/etc/fuse.conf", "re");
	bool found = false;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		found |= strncmp(line, "user_allow_other", 16) == 0;
	if (f)
		fclose(f);
	return found;
}

static bool may_mount(void)
{
	unsigned long long set = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	if (!f)
		return true;
	while (fgets(line, sizeof(line), f) &&
	       sscanf(line, "CapEff: %llx", &set) != 1)
		;
	fclose(f);
	return set & 1ull << CAP_SYS_ADMIN;
}

/* Opens it, because a container's rules are not in the file's mode. */
static const char *device_obstacle(void)
{
	CLEANUP(fd) int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return "/dev/fuse cannot be opened by this user: chmod 666 "
		       "/dev/fuse, or start the container with --device "
		       "/dev/fuse";
	if (fd < 0)
		return "/dev/fuse is missing: load the module (modprobe fuse), "
		       "or start the container with --device /dev/fuse";
	if (fstat(fd, &st) || st.st_rdev != makedev(MISC_MAJOR, FUSE_MINOR))
		return "/dev/fuse is another device: unmount what covers it, "
		       "or start the container with --device /dev/fuse";
	return NULL;
}

const char *session_obstacle(bool allow_other)
{
	const char *obstacle = device_obstacle();
	bool root = geteuid() == 0;

	if (obstacle)
		return obstacle;
	if (root && !may_mount())
		return "root may not mount here (CAP_SYS_ADMIN is missing): "
		       "start the container with --cap-add SYS_ADMIN";
	if (!root && access("/usr/bin/fusermount3", X_OK) &&
	    access("/bin/fusermount3", X_OK))
		return "fusermount3 is missing: install the fuse3 package";
	if (!root && allow_other && !user_allow_other())
		return "--allow-other needs the line user_allow_other in "
		       "/etc/fuse.conf: add it, or mount as root";
	return NULL;
}

/* libfuse prints why a mount failed to stderr; this adds what to do. */
static int mount_failed(const struct session_config *c, char *why, size_t len)
{
	const char *next = session_obstacle(c->allow_other);

	snprintf(why, len, "cannot mount on %s: %s", c->mountpoint,
		 next ? next :
			"the reason is above; r2fs doctor may tell more");
	return -EIO;
}

static int serve(struct session *s)
{
	int err;

	err = first_exchange(s->se);
	if (err)
		return err;
	s->context->session = s->se;
	ops_listen(s->context);
	err = pthread_key_create(&s->last_act, on_thread_end);
	if (!err)
		err = pthread_create(&s->signals, NULL, wait_for_signals, s);
	if (err)
		return -err;
	err = loop(s);
	ops_deaf(s->context);
	wait_for_replies(s);
	/* wake_loop may ask where nobody answers any more: this ends it. */
	fuse_session_unmount(s->se);
	atomic_store(&s->over, true);
	pthread_kill(s->signals, SIGUSR2);
	pthread_join(s->signals, NULL);
	pthread_key_delete(s->last_act);
	return err > 0 ? 0 : err;
}

int session_run(struct vfs *v, const struct session_config *config, char *why,
		size_t why_len)
{
	struct ops_context context = { .vfs = v,
				       .tasks = config->tasks,
				       .ready = on_ready,
				       .requests = config->requests,
				       .io_uring = config->io_uring &&
						   can_use_rings() };
	struct session s = { .config = config, .context = &context };
	char *options = mount_options(config, context.io_uring);
	char name[] = "r2fs", flag[] = "-o";
	char *argv[] = { name, flag, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	int err = -EIO;

	context.arg = &s;
	mutex_init(&context.lock);
	list_init(&context.jobs);
	s.se = fuse_session_new(&args, &ops_table, ops_table_size, &context);
	if (!s.se) {
		snprintf(why, why_len,
			 "libfuse refuses the mount options \"%s\"", options);
		err = -EINVAL;
	} else if (fuse_session_mount(s.se, config->mountpoint)) {
		err = mount_failed(config, why, why_len);
	} else {
		err = serve(&s);
		if (err)
			snprintf(why, why_len, "the FUSE loop on %s ended: %s",
				 config->mountpoint, strerror(-err));
		fuse_session_unmount(s.se);
	}
	if (s.se)
		fuse_session_destroy(s.se);
	watch_destroy(context.watch);
	nodes_destroy(context.nodes);
	fuse_opt_free_args(&args);
	free(options);
	mutex_release(&context.lock);
	return err;
}

const char *session_libfuse_version(void)
{
	return fuse_pkgversion();
}

unsigned session_libfuse(void)
{
	unsigned built = FUSE_VERSION, here = fuse_version();

	return built < here ? built : here;
}
