/*
 * Whose turn it is.
 *
 * What changes a stored version or a name has its inodes for itself. A folder
 * that is renamed is moved key by key; what was stored under one of its old
 * keys meanwhile would be deleted, or stay behind. So nothing below it begins
 * until it has its new name, and keys are made of names after the beginning.
 *
 * Who needs several inodes gets all of them at one moment and waits while
 * having none, and a folder's rename waits only for those that have begun: so
 * nobody waits for somebody who waits.
 */
#include "vfs/write.h"

static bool is_moving_locked(struct vfs *v, const struct inode *i)
	REQUIRES(v->lock)
{
	if (!v->moving || i->unlinked)
		return false;
	while (i && !i->moving)
		i = i->parent;
	return i;
}

bool inode_is_moving(struct vfs *v, const struct inode *i)
{
	mutex_lock(&v->lock);
	bool moving = is_moving_locked(v, i);
	mutex_unlock(&v->lock);
	return moving;
}

static bool is_free_locked(struct vfs *v, const struct inode *i)
	REQUIRES(v->lock)
{
	return !i || (!i->busy && !i->settling && !is_moving_locked(v, i));
}

/* Who calls wait_locked takes and gives the lock by these two. */
static void lock(struct vfs *v, const struct vfs_ctx *ctx) ACQUIRES(v->lock)
{
	store_interrupt_wakes(ctx->interrupt, &v->lock, &v->inode_free);
	mutex_lock(&v->lock);
}

static void unlock(struct vfs *v, const struct vfs_ctx *ctx) RELEASES(v->lock)
{
	mutex_unlock(&v->lock);
	store_interrupt_wakes(ctx->interrupt, NULL, NULL);
}

static int wait_locked(struct vfs *v, const struct vfs_ctx *ctx)
	REQUIRES(v->lock)
{
	if (ctx->nowait)
		return -EAGAIN;
	if (store_interrupt_raised(ctx->interrupt))
		return -EINTR;
	cond_wait(&v->inode_free, &v->lock);
	return 0;
}

int inodes_begin(struct vfs *v, const struct vfs_ctx *ctx, struct inode *a,
		 struct inode *b, struct inode *dir)
{
	int err = 0;

	lock(v, ctx);
	while (!err && !(is_free_locked(v, a) && is_free_locked(v, b) &&
			 !is_moving_locked(v, dir)))
		err = wait_locked(v, ctx);
	if (!err) {
		if (a)
			a->busy = true;
		if (b)
			b->busy = true;
		dir->changing++;
	}
	unlock(v, ctx);
	return err;
}

void dir_end(struct vfs *v, struct inode *dir)
{
	mutex_lock(&v->lock);
	dir->changing--;
	cond_broadcast(&v->inode_free);
	mutex_unlock(&v->lock);
}

void inode_begin(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	while (!is_free_locked(v, i))
		cond_wait(&v->inode_free, &v->lock);
	i->busy = true;
	mutex_unlock(&v->lock);
}

void inode_end(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	i->busy = false;
	cond_broadcast(&v->inode_free);
	mutex_unlock(&v->lock);
}

int inode_wait_settled(struct vfs *v, const struct vfs_ctx *ctx,
		       struct inode *i)
{
	int err = 0;

	lock(v, ctx);
	while (!err && (i->settling || is_moving_locked(v, i)))
		err = wait_locked(v, ctx);
	unlock(v, ctx);
	return err;
}

int inode_hold(struct vfs *v, const struct vfs_ctx *ctx, struct inode *i)
{
	int err = 0;

	lock(v, ctx);
	while (!err && (i->settling || is_moving_locked(v, i)))
		err = wait_locked(v, ctx);
	i->holds += !err;
	unlock(v, ctx);
	return err;
}

static bool is_used_locked(const struct inode *i)
{
	return i->writers > 0 || i->holds > 0;
}

void inode_unused(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	struct writeback *wb = i->wb;
	if (wb)
		writeback_ref(wb);
	bool failed = i->failed;
	bool idle = !is_used_locked(i) && !i->owed && !i->unlinked;
	mutex_unlock(&v->lock);
	if (!wb)
		return;
	if (idle && writeback_dirty(wb)) {
		if (failed)
			inode_abandon(v, i);
		else
			inode_owe(v, i, 0);
	}
	writeback_put(wb);
	inode_settle(v, i);
}

void inode_let_go(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	i->holds--;
	mutex_unlock(&v->lock);
	inode_unused(v, i);
}

bool inode_begin_settling(struct vfs *v, struct inode *i,
			  const struct writeback *wb)
{
	mutex_lock(&v->lock);
	bool start = i->wb == wb && is_free_locked(v, i) &&
		     !is_used_locked(i) && !i->owed &&
		     (i->unlinked ? i->opens == 0 : !writeback_dirty(i->wb));
	i->settling |= start;
	mutex_unlock(&v->lock);
	return start;
}

bool inode_begin_abandoning(struct vfs *v, struct inode *i,
			    const struct writeback *wb)
{
	mutex_lock(&v->lock);
	while (!is_free_locked(v, i))
		cond_wait(&v->inode_free, &v->lock);
	bool start = i->wb == wb && !is_used_locked(i);
	i->settling |= start;
	mutex_unlock(&v->lock);
	return start;
}

bool inode_begin_publishing(struct vfs *v, struct inode *i,
			    const struct writeback *wb)
{
	mutex_lock(&v->lock);
	bool start = i->wb == wb && !is_used_locked(i);
	i->settling |= start;
	mutex_unlock(&v->lock);
	return start;
}

void inode_settled(struct vfs *v, struct inode *i)
{
	mutex_lock(&v->lock);
	i->settling = false;
	cond_broadcast(&v->inode_free);
	mutex_unlock(&v->lock);
}

/* ---- a folder with all below ---- */

struct below {
	const struct inode *dir;
	bool begun;
};

static void find_begun(struct map_node *n, void *arg)
{
	const struct inode *i = container_of(n, struct inode, node);
	struct below *b = arg;

	if (!i->busy && !i->settling && !i->changing &&
	    (!i->moving || i == b->dir))
		return;
	while (i && i != b->dir)
		i = i->parent;
	b->begun |= i != NULL;
}

static bool is_begun_locked(struct vfs *v, const struct inode *dir)
	REQUIRES(v->lock)
{
	struct below b = { .dir = dir };

	map_each(&v->inodes, find_begun, &b);
	return b.begun;
}

static void stop_locked(struct vfs *v, struct inode *dir, struct inode *to)
	REQUIRES(v->lock)
{
	dir->moving = false;
	v->moving--;
	to->changing--;
	cond_broadcast(&v->inode_free);
}

int folder_begin(struct vfs *v, const struct vfs_ctx *ctx, struct inode *dir,
		 struct inode *to)
{
	int err = 0;

	lock(v, ctx);
	while (!err && (!is_free_locked(v, dir) || is_moving_locked(v, to)))
		err = wait_locked(v, ctx);
	if (!err) {
		dir->moving = true;
		v->moving++;
		v->moves++;
		to->changing++;
		while (!err && is_begun_locked(v, dir))
			err = wait_locked(v, ctx);
		if (err)
			stop_locked(v, dir, to);
	}
	unlock(v, ctx);
	return err;
}

void folder_end(struct vfs *v, struct inode *dir, struct inode *to)
{
	mutex_lock(&v->lock);
	stop_locked(v, dir, to);
	mutex_unlock(&v->lock);
}
