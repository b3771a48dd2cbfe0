/*
 * The stack, bottom up: http, credentials, R2, cache, memory, threads, fill,
 * vfs, session; and down again in the reverse order.
 *
 * Threads and LMDB must not cross a fork, so the daemon forks first and
 * builds afterwards; the parent waits on a pipe until the kernel has answered
 * (one byte: mounted) or until a text says why not, which it prints.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/fsio.h"
#include "cli/cli.h"
#include "cli/control.h"
#include "cli/report.h"
#include "fuse/session.h"
#include "r2/r2.h"

enum {
	WAITING_THREADS = 512,
	DISK_THREADS = 2,
	WHY = 1024,
	DRAIN_MS = 60000,
	LISTED_AHEAD = 16, /* folders, at most */
	AHEAD_OF_CACHE = 32, /* a part of it, for files nobody has read yet */
	NAMES_OF_MEMORY = 8, /* a part of it, for names the kernel holds */
	INODE_BYTES = 512,
	PATIENCE_MS = 5000, /* with --offline-ok */
};

static void say(struct mount *m, const char *fmt, ...) PRINTF(2, 3);

static void say(struct mount *m, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (m->ready_fd < 0) {
		fprintf(stderr, "r2fs: %s\n", text);
		return;
	}
	if (write(m->ready_fd, text, strlen(text)) < 0)
		log_error("mount", "%s", text);
}

static void leave_terminal(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, fd);
		close(null);
	}
}

static void on_ready(void *arg, const struct session_features *features)
{
	struct mount *m = arg;

	__atomic_store_n(&m->passthrough, features->passthrough,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&m->io_uring, features->io_uring, __ATOMIC_RELAXED);
	log_info("mount", "%s is mounted on %s", m->source, m->cfg->mountpoint);
	if (m->ready_fd >= 0) {
		if (write(m->ready_fd, "", 1) < 0)
			log_warn("mount", "the starting process is gone");
		close(m->ready_fd);
		m->ready_fd = -1;
		leave_terminal(STDERR_FILENO);
	}
}

static void on_ending(void *arg)
{
	struct mount *m = arg;

	fills_cancel(m->fills);
}

static void on_hangup(void *arg)
{
	struct mount *m = arg;
	struct creds_set *set = creds_get(m->creds);

	if (log_reopen())
		log_warn("mount", "cannot reopen the log file");
	if (creds_reload(m->creds, set->serial))
		log_info("mount", "credentials read again from %s",
			 creds_source(m->creds));
	creds_set_put(set);
}

/* ---- building ---- */

char *mount_cache_dir(const struct config *cfg)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	CLEANUP(free) char *base = NULL;
	char *dir;

	if (cfg->cache_dir)
		base = xstrdup(cfg->cache_dir);
	else if (geteuid() == 0)
		base = xstrdup("/var/cache/r2fs");
	else if (xdg && *xdg)
		base = xasprintf("%s/r2fs", xdg);
	else
		base = xasprintf("%s/.cache/r2fs", home ? home : "/tmp");
	dir = xasprintf("%s/%s@%s", base, cfg->bucket,
			strstr(cfg->url, "://") + 3);
	if (*cfg->prefix) {
		CLEANUP(free) char *all = dir;

		dir = xasprintf("%s,%.40s%08x", all, cfg->prefix,
				crc32c(0, cfg->prefix, strlen(cfg->prefix)));
	}
	for (char *p = dir + strlen(base) + 1; *p; p++)
		if (*p == '/')
			*p = '_';
	return dir;
}

static int build_store(struct mount *m, char *why)
{
	const struct config *c = m->cfg;
	struct creds_config cc = { .file = c->credentials,
				   .profile = c->profile };
	struct http_config hc = { .max_connections = c->max_connections,
				  .loops = c->network_threads,
				  .ca_bundle = c->ca_bundle,
				  .user_agent = "r2fs/" R2FS_VERSION };
	struct r2_config rc = { .endpoint = c->url,
				.bucket = c->bucket,
				.region = c->region,
				.deadline_ms = c->deadline_ns / 1000000,
				.patience_ms = c->offline_ok ? PATIENCE_MS : 0,
				.max_in_flight = c->max_connections };
	int err = creds_create(&cc, &m->creds, why, WHY);

	if (!err) {
		creds_clean_environment(m->creds);
		err = http_curl_create(&hc, &m->http);
	}
	if (!err)
		err = r2_create(&rc, m->http, m->creds, &m->store);
	return err;
}

static int build_cache(struct mount *m, char *why)
{
	const struct config *c = m->cfg;
	CLEANUP(free) char *dir = mount_cache_dir(c);
	CLEANUP(free)
	char *identity = xasprintf("%s %s %s", c->url, c->bucket, c->prefix);
	struct cache_config cc = { .dir = dir,
				   .identity = identity,
				   .max_bytes = c->cache_size,
				   .min_free = c->min_free,
				   .writable = !c->read_only };

	return cache_open(&cc, &m->cache, why, WHY);
}

/* The stage folder belongs to the cache's folder, but not to the cache. */
static int build_writebacks(struct mount *m, char *why)
{
	const struct config *c = m->cfg;
	CLEANUP(free) char *dir = mount_cache_dir(c);
	struct writeback_config wc = { .store = m->store,
				       .fills = m->fills,
				       .blocks = cache_blocks(m->cache),
				       .meta = cache_meta(m->cache),
				       .tasks = m->waiting,
				       .pool = m->pool,
				       .part_size = c->part_size };
	int err;

	if (c->read_only)
		return 0;
	err = stage_open(dir, &m->stage);
	if (err) {
		snprintf(
			why, WHY,
			"cannot use %s/stage for files being written: %s; give "
			"another --cache-dir, or mount --read-only",
			dir, strerror(-err));
		return err;
	}
	wc.stage = m->stage;
	m->writebacks = writebacks_create(&wc);
	return 0;
}

/* The rest of the connections is for what a program waits for now. */
static unsigned ahead_share(const struct config *c)
{
	uint64_t share = c->max_connections * 3 / 4;

	return c->ahead_files < share ? c->ahead_files : share;
}

static unsigned listahead_share(const struct config *c)
{
	uint64_t share = c->max_connections / 4;

	share = share < LISTED_AHEAD ? share : LISTED_AHEAD;
	return c->ahead_files ? share : 0;
}

static int build_vfs(struct mount *m, char *why)
{
	const struct config *c = m->cfg;
	struct fill_config fc = { .store = m->store,
				  .blocks = cache_blocks(m->cache) };
	struct vfs_config vc = { .store = m->store,
				 .cache = m->cache,
				 .prefix = c->prefix,
				 .metadata_ttl_ns = c->metadata_ttl_ns,
				 .negative_ttl_ns = c->negative_ttl_ns,
				 .uid = c->uid,
				 .gid = c->gid,
				 .file_mode = c->file_mode,
				 .dir_mode = c->dir_mode,
				 .umask = c->umask,
				 .journal_close = c->writeback,
				 .offline_ok = c->offline_ok,
				 .temporary = c->temporary_names,
				 .locks = c->lock_names };
	int err;

	m->pool = pool_create(c->memory);
	m->waiting = tasks_create("r2fs-wait", WAITING_THREADS);
	m->disk = tasks_create("r2fs-disk", DISK_THREADS);
	fc.pool = m->pool;
	fc.disk = m->disk;
	err = fills_create(&fc, &m->fills);
	if (!err)
		err = build_writebacks(m, why);
	if (err)
		return err;
	vc.fills = m->fills;
	vc.held_max = c->memory / NAMES_OF_MEMORY / INODE_BYTES;
	vc.tasks = m->waiting;
	vc.ahead = ahead_share(c);
	vc.listahead = listahead_share(c);
	vc.ahead_bytes = c->cache_size / AHEAD_OF_CACHE;
	vc.writebacks = m->writebacks;
	return vfs_new(&vc, &m->vfs);
}

static int probe(struct mount *m)
{
	struct store_req req;
	struct buf text;
	int err;

	store_req_init(&req, STORE_LIST);
	err = vfs_probe(m->vfs, &req);
	if (err) {
		buf_init(&text, 4096);
		req.error = err;
		diagnose(&req, m->cfg, &text);
		say(m, "%s", text.data);
		buf_release(&text);
	}
	store_req_release(&req);
	return err;
}

static int resume(struct mount *m)
{
	CLEANUP(free) char *dir = mount_cache_dir(m->cfg);
	int err = vfs_resume(m->vfs);

	if (err)
		say(m,
		    "cannot take up what an earlier mount left in %s/stage: "
		    "%s; mend the folder, or give another --cache-dir",
		    dir, strerror(-err));
	return err;
}

/* Owed uploads get their time; what is left then is in the journal. */
static void drain(struct mount *m)
{
	unsigned left;

	if (!m->vfs || !vfs_owed(m->vfs))
		return;
	if (m->leave) {
		log_info("mount", "%u uploads are left in the journal",
			 vfs_owed(m->vfs));
		return;
	}
	log_info("mount", "%u uploads are owed", vfs_owed(m->vfs));
	left = vfs_drain(m->vfs, DRAIN_MS);
	if (left)
		log_warn("mount",
			 "%u uploads are left in the journal: the "
			 "next mount of this bucket with this cache "
			 "folder goes on with them",
			 left);
}

static void tear_down(struct mount *m)
{
	drain(m);
	vfs_stop(m->vfs);
	control_destroy(m->control);
	tasks_destroy(m->waiting);
	if (m->fills) {
		fills_cancel(m->fills);
		fills_wait(m->fills);
	}
	tasks_destroy(m->disk);
	vfs_destroy(m->vfs);
	writebacks_destroy(m->writebacks);
	stage_close(m->stage);
	fills_destroy(m->fills);
	store_destroy(m->store);
	http_destroy(m->http);
	cache_close(m->cache);
	pool_destroy(m->pool);
	creds_destroy(m->creds);
	free(m->source);
}

static int build(struct mount *m)
{
	char why[WHY] = "";
	int err = build_store(m, why);

	if (!err)
		err = build_cache(m, why);
	if (!err)
		err = build_vfs(m, why);
	if (err)
		say(m, "%s", why[0] ? why : strerror(-err));
	if (!err)
		err = probe(m);
	return err ? err : resume(m);
}

static int serve(struct mount *m)
{
	const struct config *c = m->cfg;
	struct session_config sc = { .mountpoint = c->mountpoint,
				     .source = m->source,
				     .mount_options = c->kernel_options,
				     .allow_other = c->allow_other,
				     .read_only = c->read_only,
				     .io_uring = c->io_uring,
				     .tasks = m->waiting,
				     .requests = &m->kernel_requests,
				     .ready = on_ready,
				     .hangup = on_hangup,
				     .ending = on_ending,
				     .arg = m };
	char why[WHY] = "";
	int err;

	if (control_create(c->mountpoint, report, m, &m->control))
		log_warn("mount", "no control socket: status and stats will "
				  "not work for this mount");
	err = session_run(m->vfs, &sc, why, WHY);
	if (err)
		say(m, "%s", why);
	log_info("mount", "%s is unmounted", c->mountpoint);
	return err;
}

static void raise_file_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* Requests hold session tokens and what users read. At 1, and not at 0, the
 * kernel starts no program for dumps either. Root may raise it again. */
static void dump_no_core(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_CORE, &r) || r.rlim_max == 0)
		return;
	r.rlim_cur = 1;
	setrlimit(RLIMIT_CORE, &r);
}

static int run(struct mount *m)
{
	const struct config *c = m->cfg;
	const char *log = c->log_file	? c->log_file :
			  c->foreground ? "-" :
					  "syslog";
	enum log_level level;
	int err = log_level_parse(c->log_level, &level);

	if (!err)
		err = log_open(log, level);
	if (err) {
		say(m, "cannot open the log file %s: %s", log, strerror(-err));
		return 1;
	}
	session_block_signals();
	raise_file_limit();
	dump_no_core();
	m->source = xasprintf("%s%s%s", c->bucket, *c->prefix ? "/" : "",
			      c->prefix);
	m->started_ns = clock_mono_ns();
	err = build(m);
	if (!err)
		err = serve(m);
	tear_down(m);
	log_close();
	return err ? 1 : 0;
}

/* ---- in the background ---- */

static int wait_for_child(int fd)
{
	char text[4096];
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(text) - 1 &&
	       (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	if (len == 1 && text[0] == 0)
		return 0;
	text[len] = 0;
	fprintf(stderr, "r2fs: %s\n",
		len ? text :
		      "the daemon ended before the mount answered; "
		      "run again with -f to see why");
	return 1;
}

/* stderr stays until the mount answers: libfuse and fusermount3 write there
 * why it does not. */
static void to_background(void)
{
	setsid();
	if (chdir("/"))
		log_debug("mount", "chdir /: %s", strerror(errno));
	leave_terminal(STDIN_FILENO);
	leave_terminal(STDOUT_FILENO);
}

int mount_run(const struct config *cfg)
{
	struct mount m = { .cfg = cfg, .ready_fd = -1 };
	int fds[2], status;
	pid_t pid;

	if (cfg->foreground)
		return run(&m);
	if (pipe2(fds, O_CLOEXEC) || (pid = fork()) < 0) {
		fprintf(stderr, "r2fs: cannot start the daemon: %s\n",
			strerror(errno));
		return 1;
	}
	if (pid > 0) {
		close(fds[1]);
		status = wait_for_child(fds[0]);
		if (status)
			waitpid(pid, NULL, 0);
		return status;
	}
	close(fds[0]);
	to_background();
	m.ready_fd = fds[1];
	_exit(run(&m));
}
