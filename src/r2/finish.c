/*
 * From a good answer to the caller's results.
 *
 * A conditional write whose answer was lost is refused by our own object when
 * it is repeated. Such a refusal is confirmed by a HEAD, which ends here: the
 * ETag that the write would have made means it was done.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "r2/crypto.h"
#include "r2/op.h"

/* ---- success ---- */

static int finish_head(struct op *op)
{
	struct store_attr *attr = &op->req->attr;

	if (!op_etag(op, attr->etag.s, sizeof(attr->etag.s)))
		return -EBADMSG;
	op_read_attr(op, attr);
	attr->size = op->http.content_length < 0 ? 0 : op->http.content_length;
	if (op->http.content_length < 0 && !op->variant.as_head)
		return -EBADMSG;
	return op->variant.as_head && attr->size ? -ESTALE : 0;
}

static void parse_list(struct task *t)
{
	struct op *op = container_of(t, struct op, task);
	struct store_req *req = op->req;
	int err = xml_parse_list(op->body.data, op->body.len, &req->list);

	if (!err && req->token && req->list.next_token &&
	    strcmp(req->token, req->list.next_token) == 0)
		err = -EBADMSG;
	if (!err) {
		op_end(op, 0);
		return;
	}
	store_list_release(&req->list);
	snprintf(req->why, sizeof(req->why),
		 "the listing is malformed or does not advance");
	if (op->tries < 3) {
		op_retry(op, (struct verdict){ err, RETRY_BACKOFF },
			 retry_delay_ns(RETRY_BACKOFF, op->tries, 0));
		return;
	}
	op_end(op, err);
}

/* ---- success of a write ---- */

static bool is_md5(const char *etag)
{
	return strlen(etag) == 32 && !strchr(etag, '-');
}

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

static int finish_confirm(struct op *op)
{
	struct store_etag want, got;

	if (!op_etag(op, got.s, sizeof(got.s)) ||
	    !expected_etag(op->req, &want) || strcmp(want.s, got.s) != 0) {
		snprintf(op->req->why, sizeof(op->req->why),
			 "somebody else wrote the object");
		return op->refused;
	}
	op->req->attr.etag = got;
	return 0;
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
		req->nfailed = r.failed;
	} else if (!err) {
		snprintf(req->attr.etag.s, sizeof(req->attr.etag.s), "%.71s",
			 r.etag);
		strcpy(req->ret_part_etag, r.etag);
		err = r.etag[0] ? 0 : -EBADMSG;
	}
	if (err)
		snprintf(req->why, sizeof(req->why),
			 "the answer to %s is incomplete",
			 store_op_name(req->op));
	else if (req->nfailed)
		snprintf(req->why, sizeof(req->why), "%.180s", r.failure);
	free(r.upload_id);
	return err;
}

static int finish_write(struct op *op)
{
	switch (op->req->op) {
	case STORE_PUT:
	case STORE_MPU_PART:
		return finish_body(op);
	case STORE_DELETE:
	case STORE_MPU_ABORT:
		return 0;
	default:
		return finish_result(op);
	}
}

void op_finish(struct op *op)
{
	struct store_req *req = op->req;
	int err = 0;

	if (op->http.status == 304) {
		req->not_modified = true;
	} else if (req->op == STORE_LIST) {
		op->task.run = parse_list;
		tasks_submit(op->r2->workers, &op->task);
		return;
	} else if (op->confirm) {
		err = finish_confirm(op);
	} else if (op_is_write(req)) {
		err = finish_write(op);
	} else if (req->op == STORE_HEAD || op->variant.as_head) {
		err = finish_head(op);
		if (err)
			snprintf(req->why, sizeof(req->why),
				 "the answer to HEAD is incomplete");
	}
	op_end(op, err);
}
