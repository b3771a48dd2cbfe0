/*
 * Internals of the removals: what the queue (removal.c) and who sends it
 * (removal_send.c) share. A batch belongs to the task; the lock guards nothing
 * in it.
 */
#ifndef VFS_REMOVAL_IMPL_H
#define VFS_REMOVAL_IMPL_H

#include "cache/gone.h"
#include "vfs/removal.h"

struct removal {
	struct map_node node; /* removals.keys */
	struct list link; /* the queue, or the batch on its way */
	struct gone *log; /* a reference; NULL: not in the journal */
	bool check; /* only if it is still this version */
	char etag[CACHE_ETAG_MAX];
	bool ours; /* only if it is an object with these two */
	uint64_t size;
	struct store_meta meta;
	int error; /* of the batch under way */
	char key[];
};

struct batch {
	struct list list;
	unsigned n;
};

/* Every removal ends with its error: 0 or one that is final. Or none does, and
 * an error that may pass is returned. */
MUST_CHECK int removal_send(struct vfs *v, struct batch *b, char why[192]);

/* Logs what failed, and gives its names back. */
void removal_report(struct vfs *v, struct batch *b, const char *why);

#endif
