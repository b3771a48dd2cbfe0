/* The blocking call and its interrupt, on a store that answers when told. */
#include "store/store_impl.h"

#include <pthread.h>

#include "check.h"

static struct {
	struct store store;
	struct mutex lock;
	struct cond changed;
	/* guarded by lock */
	struct store_req *req; /* submitted and not answered */
	bool cancelled;
} slow;

static void slow_submit(struct store *s, struct store_req *req)
{
	mutex_lock(&slow.lock);
	slow.req = req;
	cond_broadcast(&slow.changed);
	mutex_unlock(&slow.lock);
}

/* Like the real one it only says so; done comes from another thread. */
static void slow_cancel(struct store *s, struct store_req *req)
{
	mutex_lock(&slow.lock);
	slow.cancelled = true;
	cond_broadcast(&slow.changed);
	mutex_unlock(&slow.lock);
}

static const struct store_ops slow_ops = { .submit = slow_submit,
					   .cancel = slow_cancel };

static struct store_req *wait_submitted(void)
{
	mutex_lock(&slow.lock);
	while (!slow.req)
		cond_wait(&slow.changed, &slow.lock);
	struct store_req *req = slow.req;
	mutex_unlock(&slow.lock);
	return req;
}

static void answer(struct store_req *req, int error)
{
	mutex_lock(&slow.lock);
	slow.req = NULL;
	mutex_unlock(&slow.lock);
	req->error = error;
	req->done(req);
}

static void *answer_cancelled(void *arg)
{
	struct store_req *req = wait_submitted();

	mutex_lock(&slow.lock);
	while (!slow.cancelled)
		cond_wait(&slow.changed, &slow.lock);
	mutex_unlock(&slow.lock);
	answer(req, -ECANCELED);
	return NULL;
}

static void *answer_well(void *arg)
{
	answer(wait_submitted(), 0);
	return NULL;
}

static void *raise_when_submitted(void *arg)
{
	(void)wait_submitted();
	store_interrupt_raise(arg);
	return NULL;
}

static int call(struct store_interrupt *i)
{
	struct store_req req;
	int err;

	store_req_init(&req, STORE_HEAD);
	req.key = "k";
	err = store_call(&slow.store, &req, i);
	store_req_release(&req);
	return err;
}

static void test_call(void)
{
	struct store_interrupt *i = store_interrupt_create();
	pthread_t a, b;

	CASE("store: a call ends with its answer");
	pthread_create(&a, NULL, answer_well, NULL);
	CHECK_INT(call(i), 0);
	pthread_join(a, NULL);
	CHECK(!slow.cancelled);

	CASE("store: an interrupt cancels the call, and those after it");
	pthread_create(&a, NULL, answer_cancelled, NULL);
	pthread_create(&b, NULL, raise_when_submitted, i);
	CHECK_INT(call(i), -EINTR);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	CHECK(slow.cancelled);
	CHECK_INT(call(i), -EINTR);
	CHECK(!slow.req);
	store_interrupt_destroy(i);
}

struct waiting {
	struct mutex lock;
	struct cond cond;
	struct store_interrupt *interrupt;
	bool ready;
};

static void *wait_for_interrupt(void *arg)
{
	struct waiting *w = arg;

	store_interrupt_wakes(w->interrupt, &w->lock, &w->cond);
	mutex_lock(&w->lock);
	w->ready = true;
	while (!store_interrupt_raised(w->interrupt))
		cond_wait(&w->cond, &w->lock);
	mutex_unlock(&w->lock);
	store_interrupt_wakes(w->interrupt, NULL, NULL);
	return NULL;
}

static void test_wakes(void)
{
	CASE("store: an interrupt wakes who waits on a condition");
	for (int k = 0; k < 200; k++) {
		struct waiting w = { .interrupt = store_interrupt_create() };
		pthread_t t;
		bool ready = false;

		mutex_init(&w.lock);
		cond_init(&w.cond);
		pthread_create(&t, NULL, wait_for_interrupt, &w);
		while (k % 2 && !ready) {
			mutex_lock(&w.lock);
			ready = w.ready;
			mutex_unlock(&w.lock);
		}
		store_interrupt_raise(w.interrupt);
		pthread_join(t, NULL);
		cond_release(&w.cond);
		mutex_release(&w.lock);
		store_interrupt_destroy(w.interrupt);
	}
	CHECK(!store_interrupt_raised(NULL));
	store_interrupt_wakes(NULL, NULL, NULL);
}

int main(void)
{
	slow.store.ops = &slow_ops;
	mutex_init(&slow.lock);
	cond_init(&slow.changed);
	test_call();
	test_wakes();
	cond_release(&slow.changed);
	mutex_release(&slow.lock);
	return check_done();
}
