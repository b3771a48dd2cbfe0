/*
 * Writes whose fate the answer does not tell.
 *
 * A conditional write whose answer was lost is refused by our own object when
 * it is repeated; a completed upload is unknown the second time. So when an
 * attempt may have been done, a refusal after it is confirmed by a HEAD: the
 * object is ours if it has the ETag and the metadata that the write would have
 * given it. An ETag alone would not do: two lock files are both empty.
 *
 * A server that knows no conditional writes answers 501. Then a HEAD asks
 * beforehand, and the write goes without its condition: that leaves a window,
 * but never overwrites what was there all the time.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "r2/crypto.h"
#include "r2/op.h"

static const struct verdict done = { 0, RETRY_NO };
static const struct verdict again = { -EAGAIN, RETRY_NOW };

static struct verdict refused(struct op *op, int error, const char *why)
{
	snprintf(op->settled_why, sizeof(op->settled_why), "%s", why);
	return (struct verdict){ error, RETRY_NO };
}

bool op_has_conditions(const struct store_req *req)
{
	return op_is_write(req) && (req->if_match || req->if_absent);
}

void op_ask(struct op *op, enum op_question question)
{
	op->question = question;
	op->variant.as_head = question != ASK_NOTHING;
}

/* ---- is it ours? ---- */

/* The ETag that the write makes; false: it cannot be told. */
static bool expected_etag(const struct store_req *req, struct store_etag *ret)
{
	uint8_t all[MD5_BYTES];

	memset(ret, 0, sizeof(*ret));
	if (req->op == STORE_PUT && req->body.summed) {
		crypto_hex(req->body.md5, MD5_BYTES, ret->s);
		return true;
	}
	if (req->op == STORE_COPY && req->source_if_match) {
		snprintf(ret->s, sizeof(ret->s), "%s", req->source_if_match);
		return true;
	}
	if (req->op != STORE_MPU_COMPLETE ||
	    crypto_md5_of_hex(req->parts, sizeof(*req->parts),
			      offsetof(struct store_part, etag), req->nparts,
			      all))
		return false;
	crypto_hex(all, MD5_BYTES, ret->s);
	snprintf(ret->s + 32, sizeof(ret->s) - 32, "-%u", req->nparts);
	return true;
}

static bool same_meta(struct op *op)
{
	static const struct store_meta none;
	const struct store_meta *want = op->req->put_meta;
	struct store_attr there = { 0 };
	bool same;

	op_read_attr(op, &there);
	same = store_meta_has(&there.meta, want);
	if (op->req->op == STORE_PUT)
		same = same && store_meta_has(want ? want : &none, &there.meta);
	store_meta_release(&there.meta);
	return same;
}

/* R2 gives the copy of an object that was uploaded in parts the ETag of one
 * part, which cannot be told: so the metadata must tell. */
static bool may_be_copy_of_parts(const struct op *op,
				 const struct store_etag *want,
				 const struct store_etag *got)
{
	const struct store_meta *meta = op->req->put_meta;

	return op->req->op == STORE_COPY && meta && meta->n &&
	       strchr(want->s, '-') && !strchr(got->s, '-');
}

static bool is_ours(struct op *op)
{
	struct store_etag want, got;

	return op_etag(op, got.s, sizeof(got.s)) &&
	       expected_etag(op->req, &want) &&
	       (strcmp(want.s, got.s) == 0 ||
		may_be_copy_of_parts(op, &want, &got)) &&
	       same_meta(op);
}

/* A COPY is refused for its source as well as for its destination. */
static bool source_may_differ(const struct store_req *req)
{
	return req->op == STORE_COPY && req->source_if_match && req->if_absent;
}

static struct verdict judge_ours(struct op *op, int status, struct verdict v)
{
	struct store_req *req = op->req;

	if (v.error && v.retry != RETRY_NO)
		return v;
	if (status == 404 && source_may_differ(req))
		return refused(op, -ESTALE, "the source changed");
	if (v.error || !op->maybe_done || !is_ours(op))
		return refused(op, op->refused,
			       op->refused == -ENOENT ?
				       "the upload is gone" :
				       "somebody else wrote the object");
	op_etag(op, req->attr.etag.s, sizeof(req->attr.etag.s));
	return done;
}

/* ---- a server without conditions ---- */

static struct verdict judge_free(struct op *op, int status, struct verdict v)
{
	const struct store_req *req = op->req;
	struct store_etag there;

	if (v.error && v.error != -ENOENT)
		return v;
	if (v.error == -ENOENT && req->if_match)
		return refused(op, -ESTALE, "the object is gone");
	if (!v.error && req->if_absent)
		return refused(op, -EEXIST, "the object exists");
	if (!v.error && req->if_match &&
	    (!op_etag(op, there.s, sizeof(there.s)) ||
	     strcmp(there.s, req->if_match) != 0))
		return refused(op, -ESTALE, "the object has changed");
	op_ask(op, ASK_NOTHING);
	op->variant.unconditional = true;
	return again;
}

/* A refusal may have been about something else, so it is believed only when
 * the request without what was refused has succeeded. */
void op_learn(struct op *op)
{
	struct r2 *r2 = op->r2;
	bool first;

	if (op->question)
		return;
	mutex_lock(&r2->lock);
	first = op->variant.unconditional && !r2->no_conditions;
	r2->no_conditions |= op->variant.unconditional;
	r2->no_merge |= op->variant.no_merge;
	mutex_unlock(&r2->lock);
	if (first)
		log_warn("r2", "this server knows no conditional writes: two "
			       "writers of one file at the same moment are "
			       "not told apart");
}

/* ---- the write's own answer ---- */

static bool gone_is_fine(const struct op *op)
{
	enum store_op kind = request_op(op->req, &op->variant);

	return kind == STORE_DELETE || kind == STORE_MPU_ABORT ||
	       (kind == STORE_DELETE_BUCKET && op->maybe_done);
}

/* A part's copy is refused for its source as well as for its upload. */
static bool source_is_gone(const struct op *op, int status)
{
	return op->req->op == STORE_MPU_COPY &&
	       (status == 416 ||
		(status == 404 && strcmp(op->error.code, "NoSuchKey") == 0));
}

static struct verdict judge_write(struct op *op, int status, struct verdict v)
{
	const struct store_req *req = op->req;
	bool conditions = op_has_conditions(req);

	if (v.error == -ENOENT && gone_is_fine(op))
		return done;
	if (source_is_gone(op, status))
		return refused(op, -ESTALE, "the source is gone or changed");
	if (v.error == -EEXIST && req->op == STORE_CREATE_BUCKET &&
	    op->maybe_done)
		return done;
	if (status == 501 && conditions && !op->variant.unconditional) {
		op_ask(op, ASK_FREE);
		return again;
	}
	if (req->op == STORE_COPY && req->put_merge && !op->variant.no_merge &&
	    (v.error == -EINVAL || v.error == -EOPNOTSUPP)) {
		op->variant.no_merge = true;
		return again;
	}
	if (v.error == -ESTALE && req->if_absent)
		v.error = -EEXIST;
	if ((status == 412 && conditions &&
	     (op->maybe_done || source_may_differ(req))) ||
	    (status == 404 && req->op == STORE_MPU_COMPLETE &&
	     op->maybe_done)) {
		op->refused = v.error;
		op_ask(op, ASK_OURS);
		return again;
	}
	if (status >= 500 && status != 501)
		op->maybe_done = true;
	return v;
}

struct verdict op_settle(struct op *op, int status, struct verdict v)
{
	switch (op->question) {
	case ASK_OURS:
		return judge_ours(op, status, v);
	case ASK_FREE:
		return judge_free(op, status, v);
	default:
		return judge_write(op, status, v);
	}
}
