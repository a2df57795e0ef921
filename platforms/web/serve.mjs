// Serves a folder over http on this machine: node platforms/web/serve.mjs [FOLDER [PORT]]
//
// With headers that isolate the page, as memory that threads share needs them; a page without them works
// too. Tests make servers of their own of it.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
  ".wasm": "application/wasm", ".moka": "application/octet-stream", ".json": "application/json",
};

/** A server of a folder, listening. `before(request, response, path)` may answer first: it gives true. */
export async function serve(folder, { port = 0, isolated = true, before } = {}) {
  const root = resolve(folder);
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    if (isolated) {
      response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
      response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    }
    response.setHeader("Cache-Control", "no-cache");
    try {
      if (before && (await before(request, response, path))) return;
      const file = join(root, path.endsWith("/") ? `${path}index.html` : path);
      if (!file.startsWith(root)) throw new Error("outside");
      const { size } = await stat(file);
      response.writeHead(200, {
        "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Content-Length": size,
      });
      createReadStream(file).pipe(response);
    } catch {
      response.writeHead(404, { "Content-Type": "text/plain" });
      response.end("not found\n");
    }
  });
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => new Promise((done) => (server.close(done), server.closeAllConnections?.())),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder = "build/web/page", port = "8080"] = process.argv.slice(2);
  const { url } = await serve(folder, { port: Number(port) });
  console.log(`${folder} is at ${url}`);
}
