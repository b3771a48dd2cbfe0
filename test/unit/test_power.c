/*
 * What a --writeback close has promised is there after a power cut, whenever
 * it comes.
 *
 * The stage folder is changed through base/fsio.h, so this table sees every
 * step and knows what was synced: the bytes of a file by its fsync, names by
 * that of their folder. After each step it remembers what a disk may hold then:
 * of names and of bytes either what was synced or what is there, four ways in
 * all. Later each is put into a folder of its own and taken up as a mount does.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fsio.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/task.h"
#include "check.h"
#include "store/store_impl.h"
#include "vfs/vfs.h"

enum { FILES = 64, STEPS = 512, WAYS = 4, BYTES = 300000 };

struct bytes {
	char *data;
	size_t n;
};

struct node { /* a file; kept open, so that its number is not used again */
	ino_t ino;
	int fd;
	struct bytes synced;
};

struct names {
	unsigned n;
	char name[FILES][64];
	int node[FILES];
};

struct image { /* a disk after the power cut */
	unsigned n;
	char name[FILES][64];
	struct bytes bytes[FILES];
};

static char dir[] = "/tmp/r2fs-power-XXXXXX";
static char stage[64];
static struct mutex lock;
static struct node nodes[FILES];
static unsigned nnodes;
static struct names synced;
static bool folder_synced; /* stage/ itself, in its parent */
static struct image *images[STEPS][WAYS];
static unsigned steps;

/* ---- the disk ---- */

static ino_t ino_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

static ino_t ino_at(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_ino;
}

static int node_of(ino_t ino)
{
	for (unsigned i = 0; i < nnodes; i++)
		if (nodes[i].ino == ino)
			return (int)i;
	return -1;
}

static struct bytes read_all(int fd)
{
	struct stat st;
	struct bytes b = { 0 };

	if (fstat(fd, &st))
		BUG("fstat");
	b.data = xmalloc(st.st_size + 1);
	b.n = pread(fd, b.data, st.st_size, 0);
	return b;
}

static void list_names(struct names *ret)
{
	DIR *d = opendir(stage);
	struct dirent *e;

	memset(ret, 0, sizeof(*ret));
	while (d && (e = readdir(d))) {
		int node = node_of(e->d_ino);

		if (node < 0)
			continue;
		snprintf(ret->name[ret->n], sizeof(ret->name[0]), "%.63s",
			 e->d_name);
		ret->node[ret->n++] = node;
	}
	closedir(d);
}

static struct image *make_image(const struct names *names, bool all_bytes)
{
	struct image *m = xcalloc(1, sizeof(*m));

	m->n = names->n;
	for (unsigned i = 0; i < m->n; i++) {
		const struct node *n = &nodes[names->node[i]];

		memcpy(m->name[i], names->name[i], sizeof(m->name[i]));
		m->bytes[i] = all_bytes ? read_all(n->fd) : (struct bytes){ 0 };
		if (!all_bytes) {
			m->bytes[i].n = n->synced.n;
			m->bytes[i].data = xmalloc(n->synced.n + 1);
			memcpy(m->bytes[i].data,
			       n->synced.data ? n->synced.data : "",
			       n->synced.n);
		}
	}
	return m;
}

static void step_locked(void)
{
	static const struct names none;
	struct names now;

	if (steps == STEPS)
		BUG("too many steps");
	list_names(&now);
	for (int way = 0; way < WAYS; way++)
		images[steps][way] = make_image(way & 1	      ? &now :
						folder_synced ? &synced :
								&none,
						way & 2);
	steps++;
}

static void step(void)
{
	mutex_lock(&lock);
	step_locked();
	mutex_unlock(&lock);
}

/* ---- the table ---- */

static int power_open(const char *path, int flags, mode_t mode)
{
	int fd = fsio_system.open(path, flags, mode);
	bool ours = strncmp(path, stage, strlen(stage)) == 0 &&
		    path[strlen(stage)] == '/';

	if (fd < 0 || !ours)
		return fd;
	mutex_lock(&lock);
	if (node_of(ino_of(fd)) < 0) {
		if (nnodes == FILES)
			BUG("too many files");
		nodes[nnodes++] = (struct node){ .ino = ino_of(fd),
						 .fd = open(path, O_RDONLY) };
	}
	if (flags & (O_CREAT | O_TRUNC))
		step_locked();
	mutex_unlock(&lock);
	return fd;
}

static ssize_t power_pwrite(int fd, const void *buf, size_t n, off_t off)
{
	ssize_t put = fsio_system.pwrite(fd, buf, n, off);

	if (node_of(ino_of(fd)) >= 0)
		step();
	return put;
}

static int power_fsync(int fd)
{
	ino_t ino = ino_of(fd);
	int i;

	mutex_lock(&lock);
	i = node_of(ino);
	if (i >= 0) {
		free(nodes[i].synced.data);
		nodes[i].synced = read_all(nodes[i].fd);
	}
	if (ino == ino_at(stage))
		list_names(&synced);
	folder_synced |= ino == ino_at(dir) && !access(stage, F_OK);
	if (i >= 0 || ino == ino_at(stage))
		step_locked();
	mutex_unlock(&lock);
	return 0;
}

static int power_ftruncate(int fd, off_t size)
{
	int err = fsio_system.ftruncate(fd, size);

	if (node_of(ino_of(fd)) >= 0)
		step();
	return err;
}

static int power_unlink(const char *path)
{
	int err = fsio_system.unlink(path);

	step();
	return err;
}

static int power_rename(const char *from, const char *to)
{
	int err = fsio_system.rename(from, to);

	step();
	return err;
}

/* ---- promises ---- */

enum { MAX_PROMISES = 16 };

/* From one step on and before another, the key, or the other one, has these
 * bytes; or, where more is written into it, those. */
static struct promise {
	const char *key, *or_key;
	char fill, or_fill; /* 0: no other */
	size_t n, or_n;
	unsigned from, to;
} promises[MAX_PROMISES];
static unsigned npromises;

static struct promise *promise(const char *key, char fill, size_t n)
{
	struct promise *p = &promises[npromises++];

	*p = (struct promise){
		.key = key, .fill = fill, .n = n, .to = UINT32_MAX
	};
	mutex_lock(&lock);
	p->from = steps - 1;
	mutex_unlock(&lock);
	return p;
}

static void end_promise(struct promise *p)
{
	mutex_lock(&lock);
	p->to = steps - 1;
	mutex_unlock(&lock);
}

static bool bytes_hold(const struct promise *p, struct staged *f)
{
	size_t n = staged_size(f);
	CLEANUP(free) char *got = xmalloc(n + 1);

	if ((n != p->n && !(p->or_fill && n == p->or_n)) ||
	    staged_read(f, got, n, 0))
		return false;
	for (size_t i = 0; i < n; i++)
		if (got[i] != p->fill && !(p->or_fill && got[i] == p->or_fill))
			return false;
	return true;
}

struct search {
	struct stage *stage;
	const struct promise *promise;
	bool found;
};

static void look(uint64_t id, void *arg)
{
	struct search *s = arg;
	const struct promise *p = s->promise;
	struct journal_rec rec;
	struct staged *f;

	if (staged_load(s->stage, id, &f, &rec))
		return;
	if (rec.state == JOURNAL_OWED &&
	    (!strcmp(rec.key, p->key) ||
	     (p->or_key && !strcmp(rec.key, p->or_key))))
		s->found |= bytes_hold(p, f);
	journal_release(&rec);
	staged_close(f);
}

static void write_image(const char *where, const struct image *m)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/stage", where);
	mkdir(where, 0700);
	mkdir(path, 0700);
	for (unsigned i = 0; i < m->n; i++) {
		snprintf(path, sizeof(path), "%s/stage/%s", where, m->name[i]);
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
		if (write(fd, m->bytes[i].data, m->bytes[i].n) !=
		    (ssize_t)m->bytes[i].n)
			BUG("write");
		close(fd);
	}
}

static void remove_tree(const char *path)
{
	CLEANUP(free) char *command = xasprintf("rm -rf '%s'", path);

	if (system(command))
		BUG("rm");
}

static unsigned broken_at(unsigned at, int way)
{
	CLEANUP(free) char *where = xasprintf("%s/after", dir);
	struct search s = { 0 };
	unsigned broken = 0;

	write_image(where, images[at][way]);
	if (stage_open(where, &s.stage))
		BUG("stage_open");
	for (unsigned i = 0; i < npromises; i++) {
		s.promise = &promises[i];
		if (at < promises[i].from || at > promises[i].to)
			continue;
		s.found = false;
		if (stage_each(s.stage, look, &s) || !s.found) {
			printf("# %s is gone after step %u, way %d\n",
			       promises[i].key, at, way);
			broken++;
		}
	}
	stage_close(s.stage);
	remove_tree(where);
	return broken;
}

/* ---- a mount without R2 ---- */

struct silent { /* an empty bucket that stores nothing */
	struct store base;
	struct tasks *tasks;
};

struct answer {
	struct task task;
	struct store_req *req;
};

static void answer(struct task *t)
{
	struct answer *a = container_of(t, struct answer, task);
	struct store_req *req = a->req;

	free(a);
	req->error = req->op == STORE_LIST			   ? 0 :
		     req->op == STORE_GET || req->op == STORE_HEAD ? -ENOENT :
								     -ETIMEDOUT;
	req->done(req);
}

static void silent_submit(struct store *s, struct store_req *req)
{
	struct answer *a = xcalloc(1, sizeof(*a));

	a->req = req;
	a->task.run = answer;
	tasks_submit(((struct silent *)s)->tasks, &a->task);
}

static void silent_cancel(struct store *s, struct store_req *req)
{
}

static int silent_sum(struct store *s, struct store_body *const *bodies,
		      unsigned n)
{
	return 0;
}

static const struct store_ops silent_ops = { .submit = silent_submit,
					     .cancel = silent_cancel,
					     .sum = silent_sum };

struct mount {
	struct silent store;
	struct cache *cache;
	struct pool *pool;
	struct tasks *tasks;
	struct fills *fills;
	struct stage *stage;
	struct writebacks *writebacks;
	struct vfs *vfs;
};

static void mount_start(struct mount *m)
{
	struct cache_config cc = { .dir = dir,
				   .identity = "x",
				   .writable = true };
	struct fill_config fc = { .store = &m->store.base };
	struct writeback_config wc = { .store = &m->store.base };
	struct vfs_config vc = { .store = &m->store.base,
				 .prefix = "",
				 .metadata_ttl_ns = VFS_TTL_INDEFINITE,
				 .negative_ttl_ns = VFS_TTL_INDEFINITE,
				 .file_mode = 0644,
				 .dir_mode = 0755,
				 .journal_close = true,
				 .temporary = "",
				 .locks = "" };
	char why[256];

	m->tasks = tasks_create("test", 8);
	m->store.base.ops = &silent_ops;
	m->store.tasks = m->tasks;
	m->pool = pool_create(64 << 20);
	CHECK_INT(cache_open(&cc, &m->cache, why, sizeof(why)), 0);
	fc.blocks = wc.blocks = cache_blocks(m->cache);
	fc.pool = wc.pool = m->pool;
	fc.disk = wc.tasks = vc.tasks = m->tasks;
	CHECK_INT(fills_create(&fc, &m->fills), 0);
	CHECK_INT(stage_open(dir, &m->stage), 0);
	wc.fills = vc.fills = m->fills;
	wc.meta = cache_meta(m->cache);
	wc.stage = m->stage;
	m->writebacks = vc.writebacks = writebacks_create(&wc);
	vc.cache = m->cache;
	CHECK_INT(vfs_new(&vc, &m->vfs), 0);
}

static void mount_stop(struct mount *m)
{
	vfs_stop(m->vfs);
	vfs_destroy(m->vfs);
	writebacks_destroy(m->writebacks);
	fills_destroy(m->fills);
	tasks_destroy(m->tasks);
	stage_close(m->stage);
	cache_close(m->cache);
	pool_destroy(m->pool);
}

static const struct vfs_ctx waits;

static struct vfs_file *make(struct mount *m, const char *name, uint64_t *ino)
{
	const struct vfs_owner owner = { .mode = S_IFREG | 0644 };
	struct vfs_entry e;
	struct vfs_file *f = NULL;

	CHECK_INT(vfs_create(m->vfs, &waits, CACHE_ROOT_INO, name, &owner,
			     O_RDWR, &e, &f),
		  0);
	*ino = e.st.st_ino;
	return f;
}

static void put(struct vfs_file *f, char fill, size_t n, uint64_t off)
{
	CLEANUP(free) char *buf = xmalloc(n);

	memset(buf, fill, n);
	CHECK_INT(vfs_write(f, buf, n, off), 0);
}

static void finish(struct vfs_file *f, bool sync)
{
	CHECK_INT(vfs_flush(f, &waits, sync), 0);
	vfs_release(f);
}

static void write_files(struct mount *m)
{
	struct promise *a, *b, *d;
	struct vfs_file *f;
	uint64_t ino, other;
	bool keep;

	f = make(m, "a", &ino);
	put(f, '1', BYTES / 2, 0);
	put(f, '1', BYTES / 2, BYTES / 2);
	finish(f, false);
	a = promise("a", '1', BYTES);

	f = make(m, "b", &other);
	put(f, 'b', 1000, 0);
	CHECK_INT(vfs_flush(f, &waits, true), 0); /* fsync */
	b = promise("b", 'b', 1000);
	vfs_release(f);

	a->or_fill = '2';
	a->or_n = BYTES;
	CHECK_INT(vfs_open(m->vfs, &waits, ino, O_RDWR, &f, &keep), 0);
	put(f, '2', BYTES, 0);
	finish(f, false);
	end_promise(a);
	a = promise("a", '2', BYTES);

	a->or_key = "moved";
	CHECK_INT(vfs_rename(m->vfs, &waits, CACHE_ROOT_INO, "a",
			     CACHE_ROOT_INO, "moved", 0),
		  0);
	end_promise(a);
	promise("moved", '2', BYTES);

	f = make(m, "c", &other);
	put(f, 'c', 5000, 0);
	finish(f, true);
	promise("c", 'c', 5000);
	end_promise(b);
	CHECK_INT(vfs_unlink(m->vfs, &waits, CACHE_ROOT_INO, "b"), 0);

	f = make(m, "d", &other);
	put(f, 'd', 4000, 0);
	finish(f, false);
	d = promise("d", 'd', 4000);
	CHECK_INT(vfs_open(m->vfs, &waits, other, O_RDWR | O_TRUNC, &f, &keep),
		  0);
	put(f, 't', 2000, 0);
	d->or_fill = 't';
	d->or_n = 2000;
	finish(f, false);
	end_promise(d);
	promise("d", 't', 2000);
}

static void free_images(void)
{
	for (unsigned at = 0; at < steps; at++)
		for (int way = 0; way < WAYS; way++) {
			struct image *m = images[at][way];

			for (unsigned i = 0; i < m->n; i++)
				free(m->bytes[i].data);
			free(m);
		}
	for (unsigned i = 0; i < nnodes; i++) {
		close(nodes[i].fd);
		free(nodes[i].synced.data);
	}
}

int main(void)
{
	struct fsio_ops ops = fsio_system;
	struct mount m = { .vfs = NULL };
	unsigned broken = 0, last;

	log_level = LOG_LEVEL_ERROR;
	mutex_init(&lock);
	signal(SIGIO, SIG_IGN); /* fsio_ops.is_used */
	if (!mkdtemp(dir))
		return 1;
	snprintf(stage, sizeof(stage), "%s/stage", dir);
	ops.open = power_open;
	ops.pwrite = power_pwrite;
	ops.fsync = power_fsync;
	ops.ftruncate = power_ftruncate;
	ops.unlink = power_unlink;
	ops.rename = power_rename;
	fsio_replace(&ops);

	CASE("closed, synced and renamed files survive a power cut");
	mount_start(&m);
	write_files(&m);
	last = steps;
	mount_stop(&m);
	fsio_replace(NULL);
	CHECK(last > 20);
	CHECK_INT(npromises, 7);
	for (unsigned at = 0; at < last; at++)
		for (int way = 0; way < WAYS; way++)
			broken += broken_at(at, way);
	CHECK_INT(broken, 0);
	free_images();
	remove_tree(dir);
	return check_done();
}
