/*
 * The kernel's nodes and their modes.
 *
 * A mode lasts from the first open to the last release. What the kernel counts
 * ends earlier than what we count, since releases arrive later, so an open
 * that fits here fits there. The reply is sent after the lock was let go; that
 * does no harm, because all opens of a node that overlap got the same mode.
 *
 * A generation that was left behind is never used again: the kernel may still
 * have pages of it. An open of one comes from a name the kernel still believes
 * in and is sent away to look it up again, or through /proc/self/fd, where
 * there is no name to look up. The second try of the same thread is of the
 * latter kind: it gets what the node shows.
 *
 * Who may write takes its node before the file is opened: truncating a file and
 * then sending the caller away would be wrong. The kernel sends it to the next
 * node once: until it is there, no reader may take that one for passthrough.
 */
#include "fuse/nodes.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/map.h"

enum {
	GENERATION_SHIFT = 48,
	STRIPES = 16,
	NODES_TOLD = 16, /* of one inode, of a change */
};

#define WRITER_COMES_NS 1000000000ull /* if it still wants to */

#define INO_MASK ((1ull << GENERATION_SHIFT) - 1)

/* A node that is open. */
struct open_node {
	struct open_node *next;
	uint64_t node;
	unsigned opens;
	struct vfs_backing *backing; /* NULL: through the page cache */
	int id; /* the kernel's name for it */
	pid_t refused; /* the last thread that was told ESTALE */
};

struct entry {
	struct map_node node;
	uint64_t ino;
	uint64_t current; /* the newest node */
	uint64_t writer_ns; /* a writer was sent away, and comes until then */
	struct open_node *open;
};

struct stripe {
	struct mutex lock;
	/* guarded by lock: inodes that are open, or not at their first node */
	struct map entries;
};

struct nodes {
	struct vfs *v;
	void (*fn)(uint64_t node, void *arg);
	void *arg;
	bool refused; /* atomic: the kernel takes no backing files */
	struct stripe stripes[STRIPES];
};

static bool same_ino(const struct map_node *n, const void *key)
{
	return container_of(n, struct entry, node)->ino ==
	       *(const uint64_t *)key;
}

struct nodes *nodes_create(struct vfs *v, void (*fn)(uint64_t node, void *arg),
			   void *arg)
{
	struct nodes *n = xcalloc(1, sizeof(*n));

	n->v = v;
	n->fn = fn;
	n->arg = arg;
	for (int i = 0; i < STRIPES; i++) {
		mutex_init(&n->stripes[i].lock);
		map_init(&n->stripes[i].entries, same_ino);
	}
	return n;
}

/* Handles that are open when the mount ends. */
static void free_entry(struct map_node *m, void *arg)
{
	struct entry *e = container_of(m, struct entry, node);

	while (e->open) {
		struct open_node *o = e->open;

		e->open = o->next;
		vfs_backing_put(o->backing);
		free(o);
	}
	free(e);
}

void nodes_destroy(struct nodes *n)
{
	if (!n)
		return;
	for (int i = 0; i < STRIPES; i++) {
		map_each(&n->stripes[i].entries, free_entry, NULL);
		map_release(&n->stripes[i].entries);
		mutex_release(&n->stripes[i].lock);
	}
	free(n);
}

uint64_t node_ino(uint64_t node)
{
	return node & INO_MASK;
}

static struct stripe *stripe_of(struct nodes *n, uint64_t ino)
{
	return &n->stripes[hash_u64(ino) % STRIPES];
}

static struct entry *find_locked(struct stripe *s, uint64_t ino)
	REQUIRES(s->lock)
{
	struct map_node *m = map_find(&s->entries, hash_u64(ino), &ino);

	return m ? container_of(m, struct entry, node) : NULL;
}

static struct entry *entry_locked(struct stripe *s, uint64_t node)
	REQUIRES(s->lock)
{
	uint64_t ino = node_ino(node);
	struct entry *e = find_locked(s, ino);

	if (e)
		return e;
	e = xcalloc(1, sizeof(*e));
	e->ino = ino;
	e->current = node;
	map_insert(&s->entries, &e->node, hash_u64(ino));
	return e;
}

static struct open_node *open_find(struct entry *e, uint64_t node)
{
	struct open_node *o = e->open;

	while (o && o->node != node)
		o = o->next;
	return o;
}

uint64_t nodes_current(struct nodes *n, uint64_t ino)
{
	struct stripe *s = n ? stripe_of(n, ino) : NULL;
	struct entry *e;

	if (!n)
		return ino;
	mutex_lock(&s->lock);
	e = find_locked(s, ino);
	ino = e ? e->current : ino;
	mutex_unlock(&s->lock);
	return ino;
}

bool nodes_split(struct nodes *n, uint64_t ino)
{
	struct stripe *s = n ? stripe_of(n, ino) : NULL;
	struct entry *e;
	bool split;

	if (!n)
		return false;
	mutex_lock(&s->lock);
	e = find_locked(s, ino);
	split = e && e->open && (e->open->next || e->open->node != e->current);
	mutex_unlock(&s->lock);
	return split;
}

void nodes_each(struct nodes *n, uint64_t ino,
		void (*fn)(uint64_t node, void *arg), void *arg)
{
	struct stripe *s = n ? stripe_of(n, ino) : NULL;
	uint64_t open[NODES_TOLD];
	struct entry *e;
	unsigned k = 0;

	if (n) {
		mutex_lock(&s->lock);
		e = find_locked(s, ino);
		for (struct open_node *o = e ? e->open : NULL;
		     o && k < NODES_TOLD; o = o->next)
			if (o->node != e->current)
				open[k++] = o->node;
		mutex_unlock(&s->lock);
	}
	fn(nodes_current(n, ino), arg);
	while (k)
		fn(open[--k], arg);
}

/* ---- opening ---- */

static struct open_node *open_locked(struct entry *e, uint64_t node)
{
	struct open_node *o = xcalloc(1, sizeof(*o));

	o->node = node;
	o->next = e->open;
	e->open = o;
	return o;
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static void pass_through(struct nodes *n, fuse_req_t req, struct open_node *o,
			 struct vfs_file *f)
{
	struct vfs_backing *b = vfs_backing_get(n->v, f);

	if (!b)
		return;
	o->id = fuse_passthrough_open(req, vfs_backing_fd(b));
	if (o->id > 0) {
		o->backing = b;
		return;
	}
	vfs_backing_put(b);
	if (!__atomic_exchange_n(&n->refused, true, __ATOMIC_RELAXED))
		log_info("session",
			 "the kernel does not read the cache's files by itself "
			 "(it lets root do that, and not on a stacked file "
			 "system): r2fs answers all reads");
}

static void stop_pass(fuse_req_t req, const struct open_node *o)
{
	fuse_passthrough_close(req, o->id);
}

static void tell_pass(struct fuse_file_info *fi, const struct open_node *o)
{
	fi->backing_id = o->id;
	fi->keep_cache = 0;
}
#else
static void pass_through(struct nodes *n, fuse_req_t req, struct open_node *o,
			 struct vfs_file *f)
{
}

static void stop_pass(fuse_req_t req, const struct open_node *o)
{
}

static void tell_pass(struct fuse_file_info *fi, const struct open_node *o)
{
}
#endif

/* Direct reads have rules of alignment on a local disk, and none here. */
bool nodes_may_pass(const struct nodes *n, const struct fuse_file_info *fi)
{
	if (!n)
		return false;
	return (fi->flags & O_ACCMODE) == O_RDONLY &&
	       !(fi->flags & (O_DIRECT | O_TRUNC));
}

static bool fits(struct open_node *o, struct vfs_file *f, fuse_req_t req)
{
	if (!o->backing)
		return true;
	return f && (vfs_backing_serves(o->backing, f) ||
		     o->refused == fuse_req_ctx(req)->pid);
}

/* Sends the caller away; true: from a node that new handles do not use any
 * more. */
static bool leave_locked(struct entry *e, fuse_req_t req, struct open_node *o)
{
	o->refused = fuse_req_ctx(req)->pid;
	if (o->node != e->current)
		return false;
	e->current += 1ull << GENERATION_SHIFT;
	return true;
}

void nodes_leave(struct nodes *n, fuse_req_t req, uint64_t node)
{
	struct stripe *s = n ? stripe_of(n, node_ino(node)) : NULL;
	struct open_node *o;
	struct entry *e;
	bool left;

	if (!n)
		return;
	mutex_lock(&s->lock);
	e = find_locked(s, node_ino(node));
	o = e ? open_find(e, node) : NULL;
	left = o && o->backing && leave_locked(e, req, o);
	mutex_unlock(&s->lock);
	if (left)
		n->fn(node, n->arg);
}

/* *left: of leave_locked. */
static int open_node_locked(struct nodes *n, struct entry *e, fuse_req_t req,
			    uint64_t node, struct vfs_file *f,
			    struct fuse_file_info *fi, bool *left)
{
	struct open_node *o = open_find(e, node);

	if (!o && node != e->current)
		return -ESTALE;
	if (!o) {
		o = open_locked(e, node);
		if (f && !__atomic_load_n(&n->refused, __ATOMIC_RELAXED) &&
		    e->writer_ns < clock_mono_ns())
			pass_through(n, req, o, f);
	} else if (!fits(o, f, req)) {
		if (!f)
			e->writer_ns = clock_mono_ns() + WRITER_COMES_NS;
		*left = leave_locked(e, req, o);
		return -ESTALE;
	}
	o->opens++;
	if (o->backing)
		tell_pass(fi, o);
	return 0;
}

int nodes_open(struct nodes *n, fuse_req_t req, uint64_t node,
	       struct vfs_file *f, struct fuse_file_info *fi)
{
	struct stripe *s = n ? stripe_of(n, node_ino(node)) : NULL;
	bool left = false, passed = false;
	int err;

	if (!n)
		return 0;
	mutex_lock(&s->lock);
	err = open_node_locked(n, entry_locked(s, node), req, node, f, fi,
			       &left);
	mutex_unlock(&s->lock);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	passed = !err && fi->backing_id > 0;
#endif
	if (passed)
		vfs_backing_count(n->v);
	if (left)
		n->fn(node, n->arg);
	return err;
}

uint64_t nodes_create_open(struct nodes *n, uint64_t ino)
{
	struct stripe *s = n ? stripe_of(n, ino) : NULL;
	struct open_node *o;
	struct entry *e;
	uint64_t node;

	if (!n)
		return ino;
	mutex_lock(&s->lock);
	e = entry_locked(s, ino);
	o = open_find(e, e->current);
	if (o && o->backing) {
		e->current += 1ull << GENERATION_SHIFT;
		o = NULL;
	}
	if (!o)
		o = open_locked(e, e->current);
	o->opens++;
	node = e->current;
	mutex_unlock(&s->lock);
	return node;
}

/* ---- releasing ---- */

static struct open_node *take_locked(struct stripe *s, uint64_t node)
	REQUIRES(s->lock)
{
	struct entry *e = find_locked(s, node_ino(node));
	struct open_node **at, *o;

	BUG_ON(!e);
	at = &e->open;
	while (*at && (*at)->node != node)
		at = &(*at)->next;
	o = *at;
	BUG_ON(!o);
	if (--o->opens)
		return NULL;
	*at = o->next;
	if (!e->open && e->current == e->ino) {
		map_remove(&s->entries, &e->node);
		free(e);
	}
	return o;
}

void nodes_release(struct nodes *n, fuse_req_t req, uint64_t node)
{
	struct stripe *s = n ? stripe_of(n, node_ino(node)) : NULL;
	struct open_node *o;

	if (!n)
		return;
	mutex_lock(&s->lock);
	o = take_locked(s, node);
	mutex_unlock(&s->lock);
	if (!o)
		return;
	if (o->backing)
		stop_pass(req, o);
	vfs_backing_put(o->backing);
	free(o);
}
