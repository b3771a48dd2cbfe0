/*
 * The object store, implementer's side: embed struct store first, fill the
 * table. `submit` never blocks; `cancel` may be called from any thread while
 * done() has not run.
 */
#ifndef STORE_STORE_IMPL_H
#define STORE_STORE_IMPL_H

#include "store/store.h"

struct store_ops {
	void (*submit)(struct store *s, struct store_req *req);
	void (*cancel)(struct store *s, struct store_req *req);
	int (*sum)(struct store *s, struct store_body *const *bodies,
		   unsigned n);
	void (*counters)(struct store *s, struct store_counters *ret);
	void (*destroy)(struct store *s);
};

struct store {
	const struct store_ops *ops;
};

#endif
