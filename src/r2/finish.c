/*
 * From a good answer to the caller's results. Lists may be long and are parsed
 * on a worker; the other documents are short. What a good status carries must
 * still make sense: an answer without its ETag is no answer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "r2/crypto.h"
#include "r2/op.h"
#include "r2/shape.h"

/* ---- success ---- */

static int finish_head(struct op *op)
{
	struct store_attr *attr = &op->req->attr;

	if (!op_etag(op, attr->etag.s, sizeof(attr->etag.s)))
		return -EBADMSG;
	op_read_attr(op, attr);
	attr->size = op->flight->http.content_length < 0 ?
			     0 :
			     op->flight->http.content_length;
	if (op->flight->http.content_length < 0 && !op->variant.as_head)
		return -EBADMSG;
	return op->variant.as_head && attr->size ? -ESTALE : 0;
}

/* An answer that makes no sense is asked for again, but not for ever. */
static void end_or_repeat(struct op *op, int err)
{
	if (err != -EBADMSG || op->tries >= 3 ||
	    clock_mono_ns() >= op->deadline_ns) {
		op_end(op, err);
		return;
	}
	if (op_is_write(op->req))
		op->maybe_done = true;
	op_retry(op, (struct verdict){ err, RETRY_BACKOFF },
		 retry_delay_ns(RETRY_BACKOFF, op->tries, 0));
}

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool stuck(const struct store_req *req)
{
	const struct store_list *l = &req->list;

	if (req->op == STORE_MPU_LIST_PARTS)
		return req->next_part && req->next_part <= req->part_number;
	if (req->op == STORE_MPU_LIST && l->truncated)
		return same(req->start_after, l->next_key) &&
		       same(req->token, l->next_token);
	return l->next_token && same(req->token, l->next_token);
}

static int parse_parts(const struct buf *body, struct store_req *req)
{
	struct xml_parts parts;
	int err = xml_parse_parts(body->data, body->len, &parts);

	req->ret_parts = parts.v;
	req->ret_nparts = parts.n;
	req->next_part = parts.next;
	return err;
}

static int parse_any_list(const struct buf *body, struct store_req *req)
{
	switch (req->op) {
	case STORE_MPU_LIST_PARTS:
		return parse_parts(body, req);
	case STORE_MPU_LIST:
		return xml_parse_uploads(body->data, body->len, &req->list);
	case STORE_LIST_BUCKETS:
		return xml_parse_buckets(body->data, body->len, &req->list);
	default:
		return xml_parse_list(body->data, body->len, &req->list);
	}
}

static void parse_list(struct task *t)
{
	struct op *op = container_of(t, struct op, task);
	struct store_req *req = op->req;
	int err = parse_any_list(&op->body, req);

	if (!err && stuck(req))
		err = -EBADMSG;
	if (err) {
		store_list_release(&req->list);
		free(req->ret_parts);
		req->ret_parts = NULL;
		req->ret_nparts = 0;
		snprintf(req->why, sizeof(req->why),
			 "the listing is malformed or does not advance");
	}
	end_or_repeat(op, err);
}

/* ---- success of a write ---- */

static bool is_md5(const char *etag)
{
	return strlen(etag) == 32 && !strchr(etag, '-');
}

static int finish_body(struct op *op)
{
	struct store_req *req = op->req;
	char ours[2 * MD5_BYTES + 1], etag[STORE_PART_ETAG_MAX];

	if (!op_etag(op, etag, sizeof(etag)) ||
	    (req->op == STORE_PUT && strlen(etag) >= sizeof(req->attr.etag))) {
		snprintf(req->why, sizeof(req->why),
			 "the server gave no usable ETag");
		return -EBADMSG;
	}
	if (req->op == STORE_PUT)
		strcpy(req->attr.etag.s, etag);
	else
		strcpy(req->ret_part_etag, etag);
	crypto_hex(req->body.md5, MD5_BYTES, ours);
	if (req->body.summed && is_md5(etag) && strcasecmp(ours, etag) != 0) {
		snprintf(req->why, sizeof(req->why),
			 "the server stored other bytes than were sent");
		return -EBADMSG;
	}
	return 0;
}

static void key_failed(struct op *op, const char *key, int error,
		       const char *why)
{
	struct store_req *req = op->req;

	if (req->nfailed++ == 0)
		snprintf(op->failed_why, sizeof(op->failed_why),
			 "%.100s: %.60s", key, why);
	for (unsigned i = 0; req->key_errors && i < req->nkeys; i++)
		if (strcmp(req->keys[i], key) == 0)
			req->key_errors[i] = retry_given_up(error);
}

static struct verdict judge_key(const struct xml_failure *f)
{
	return retry_judge(retry_status(f->code), f->code);
}

static bool passes(struct verdict v)
{
	return v.retry == RETRY_BACKOFF || v.retry == RETRY_THROTTLE;
}

/* How the keys that failed for now are asked for again; if at all. */
static struct verdict judge_keys(struct op *op, const struct xml_result *r)
{
	struct verdict worst = { 0, RETRY_NO };

	for (unsigned i = 0; i < r->nfailures; i++) {
		struct verdict v = judge_key(&r->failures[i]);

		if (passes(v) && worst.retry != RETRY_THROTTLE)
			worst = v;
	}
	op->again_ns = retry_delay_ns(worst.retry, op->tries, 0);
	if (!op_may_retry(op, worst, op->again_ns))
		worst = (struct verdict){ 0, RETRY_NO };
	return worst;
}

static void settle_all(struct op *op)
{
	unsigned n = op->req->nkeys;

	if (!op->settled)
		op->settled = xcalloc(n, sizeof(*op->settled));
	memset(op->settled, true, n * sizeof(*op->settled));
	op->variant.settled = op->settled;
}

static void unsettle(struct op *op, const char *key)
{
	for (unsigned i = 0; i < op->req->nkeys; i++)
		if (strcmp(op->req->keys[i], key) == 0)
			op->settled[i] = false;
}

/* -EAGAIN: those that failed for now are to be asked for again, alone. */
static int take_failures(struct op *op, const struct xml_result *r)
{
	bool again = judge_keys(op, r).error;

	if (again)
		settle_all(op);
	for (unsigned i = 0; i < r->nfailures; i++) {
		const struct xml_failure *f = &r->failures[i];
		struct verdict v = judge_key(f);

		if (again && passes(v))
			unsettle(op, f->key);
		else if (v.error != -ENOENT)
			key_failed(op, f->key, v.error, f->code);
	}
	if (!again)
		return 0;
	snprintf(op->req->why, sizeof(op->req->why), "some keys failed");
	return -EAGAIN;
}

static int finish_result(struct op *op)
{
	struct store_req *req = op->req;
	struct xml_result r;
	int err = xml_parse_result(op->body.data, op->body.len, &r);

	if (!err && req->op == STORE_MPU_CREATE) {
		req->ret_upload_id = r.upload_id;
		r.upload_id = NULL;
		err = req->ret_upload_id ? 0 : -EBADMSG;
	} else if (!err && req->op == STORE_DELETE_MANY) {
		err = take_failures(op, &r);
	} else if (!err) {
		snprintf(req->attr.etag.s, sizeof(req->attr.etag.s), "%.71s",
			 r.etag);
		strcpy(req->ret_part_etag, r.etag);
		err = r.etag[0] ? 0 : -EBADMSG;
	}
	if (err && err != -EAGAIN)
		snprintf(req->why, sizeof(req->why),
			 "the answer to %s is incomplete",
			 store_op_name(req->op));
	xml_result_release(&r);
	return err;
}

static int finish_write(struct op *op)
{
	switch (request_op(op->req, &op->variant)) {
	case STORE_PUT:
	case STORE_MPU_PART:
		return finish_body(op);
	case STORE_DELETE:
	case STORE_MPU_ABORT:
	case STORE_CREATE_BUCKET:
	case STORE_DELETE_BUCKET:
		return 0;
	default:
		return finish_result(op);
	}
}

bool op_next_odd(struct op *op)
{
	const struct store_req *req = op->req;

	op->variant.single = NULL;
	while (op->odd_at < req->nkeys && !op->variant.single) {
		const char *key = req->keys[op->odd_at++];

		if (!request_fits_xml(key))
			op->variant.single = key;
	}
	return op->variant.single;
}

static void end_or_next(struct op *op, int err)
{
	if (err == -EAGAIN)
		op_retry(op, (struct verdict){ err, RETRY_BACKOFF },
			 op->again_ns);
	else if (!err && op->req->op == STORE_DELETE_MANY && op_next_odd(op))
		op_attempt(op);
	else
		end_or_repeat(op, err);
}

void op_fail(struct op *op, int error)
{
	char why[64];

	if (!op->variant.single || error == -ECANCELED) {
		op_end(op, error);
		return;
	}
	snprintf(why, sizeof(why), "%s", strerror(-error));
	key_failed(op, op->variant.single, error, why);
	end_or_next(op, 0);
}

void op_finish(struct op *op)
{
	struct store_req *req = op->req;
	int err = 0;

	if (op_is_write(req))
		req->attr.mtime_ns = op_date(op) * 1000000000ll;
	if (op->flight->http.status == 304) {
		req->not_modified = true;
		req->attr.mtime_ns = op_modified_ns(op);
	} else if (1u << req->op & LISTS) {
		op->task.run = parse_list;
		tasks_submit(op->r2->workers, &op->task);
		return;
	} else if (op_is_write(req) && !op->question &&
		   op->flight->http.status < 300) {
		err = finish_write(op);
	} else if (req->op == STORE_HEAD || op->variant.as_head) {
		err = op->question ? 0 : finish_head(op);
		if (err)
			snprintf(req->why, sizeof(req->why),
				 "the answer to HEAD is incomplete");
	}
	/* What was stored otherwise than sent is the caller's to send anew. */
	if (1u << req->op & SENDS)
		op_end(op, err);
	else
		end_or_next(op, err);
}
