// Cloudflare's own local R2 (miniflare), with buckets behind its S3 endpoint.
//
// The judge of what R2 accepts: real SigV4, R2's error codes, R2's rule of
// equal-sized parts. It keeps its data in a folder, so a test may stop it and
// start it again over the same objects.
//
//   node server.mjs [--port N] [--dir DIR] [BUCKET...]
//
// Port 0 (the default) takes a free one; without --dir the data is in a
// temporary folder, gone at the end; without names there is one bucket, "test".
// The credentials are those of the environment (R2_ACCESS_KEY_ID, which R2
// wants to be 32 characters long, and R2_SECRET_ACCESS_KEY), else the ones
// below. Once it serves it prints
//
//   listening PORT
//   endpoint http://127.0.0.1:PORT/cdn-cgi/local/r2/s3
//
// It ends on SIGTERM or SIGINT, and when the process that started it is gone:
// a test that crashes leaves no server behind.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Miniflare } from "miniflare";
import workerd from "workerd";

const PREFIX = "/cdn-cgi/local/r2/s3";

function options() {
	const { values, positionals } = parseArgs({
		allowPositionals: true,
		options: {
			port: { type: "string", default: "0" },
			dir: { type: "string" },
		},
	});
	return {
		port: Number(values.port),
		dir: values.dir,
		buckets: positionals.length ? positionals : ["test"],
		credentials: {
			accessKeyId: process.env.R2_ACCESS_KEY_ID ||
				"00000000000000000000000000000000",
			secretAccessKey: process.env.R2_SECRET_ACCESS_KEY ||
				"r2fs-test-secret",
		},
	};
}

async function main() {
	const parent = process.ppid;
	process.env.R2FS_WORKERD = workerd.default;
	process.env.MINIFLARE_WORKERD_PATH =
		fileURLToPath(new URL("workerd", import.meta.url));
	const { port, dir, buckets, credentials } = options();
	const scratch = mkdtempSync(join(tmpdir(), "r2fs-miniflare-"));
	process.env.TMPDIR = scratch; // where miniflare leaves a folder behind
	const server = new Miniflare({
		modules: true,
		script: "export default { fetch: () => new Response(null, { status: 404 }) }",
		host: "127.0.0.1",
		port,
		r2Persist: dir ?? join(scratch, "data"),
		r2Buckets: Object.fromEntries(buckets.map((id, i) =>
			[`B${i}`, { id, s3Credentials: credentials }])),
	});

	let stopping = false;
	async function stop(status) {
		if (stopping)
			return;
		stopping = true;
		await server.dispose().catch(() => {});
		rmSync(scratch, { recursive: true, force: true });
		process.exit(status);
	}
	for (const signal of ["SIGTERM", "SIGINT"]) {
		// Miniflare's own handler exits before anything is tidied up.
		process.removeAllListeners(signal);
		process.on(signal, () => stop(0));
	}
	setInterval(() => process.ppid !== parent && stop(0), 250);

	try {
		const url = await server.ready;
		console.log(`listening ${url.port}`);
		console.log(`endpoint http://127.0.0.1:${url.port}${PREFIX}`);
	} catch (error) {
		console.error(`miniflare did not start: ${error.message}`);
		await stop(1);
	}
}

await main();
