/*
 * A running mount, and what it tells about itself over the control socket.
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "base/pool.h"
#include "base/task.h"
#include "cache/cache.h"
#include "config.h"
#include "io/fill.h"
#include "net/http.h"
#include "r2/creds.h"
#include "store/store.h"
#include "vfs/vfs.h"

struct mount {
	const struct config *cfg;
	char *source; /* bucket/prefix */
	int ready_fd; /* to the starting process, -1 once told */
	uint64_t started_ns;
	struct creds *creds;
	struct http *http;
	struct store *store;
	struct cache *cache;
	struct pool *pool;
	struct tasks *waiting, *disk;
	struct fills *fills;
	struct stage *stage;
	struct writebacks *writebacks; /* NULL: read-only */
	struct vfs *vfs;
	struct control *control;
	bool passthrough, io_uring; /* atomic: what the kernel agreed to */
	uint64_t kernel_requests; /* atomic */
	bool leave; /* owed uploads stay in the journal at the end */
};

/* Answers "status" and "stats" as JSON, "summary" as lines of text; arg is the
 * struct mount. */
int report(const char *cmd, struct buf *out, void *arg);

#endif
