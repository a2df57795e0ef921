// Where the bytes of a model come from: network, cache, file, memory. They go straight into the memory of
// the engine. Runs inside the worker.
import { failed } from "./errors.js";

const CACHE = "moka-models";
const isNode = typeof process === "object" && process.versions?.node !== undefined;

// Bytes that come piece by piece, in one place: one that has their size from the start, or is joined at
// the end.
class Collector {
  constructor(engine, total, from, report) {
    Object.assign(this, { engine, total, from, report, loaded: 0, pieces: [] });
    this.at = total > 0 ? engine.alloc(total) : 0;
  }
  add(piece) {
    if (this.at !== 0) {
      if (this.loaded + piece.length > this.total) {
        throw failed("io", `${this.from} sent more than the ${this.total} bytes that it announced`);
      }
      this.engine.bytes(this.at + this.loaded, piece.length).set(piece);
    } else {
      this.pieces.push(piece);
    }
    this.loaded += piece.length;
    this.report(this.loaded, this.total);
  }
  finish() {
    if (this.at !== 0 && this.loaded !== this.total) {
      throw failed("io", `${this.from} ended after ${this.loaded} of ${this.total} bytes`);
    }
    if (this.at === 0) {
      this.at = this.engine.alloc(this.loaded);
      let to = this.at;
      for (const piece of this.pieces) {
        this.engine.bytes(to, piece.length).set(piece);
        to += piece.length;
      }
      this.pieces = [];
    }
    return { at: this.at, size: this.loaded };
  }
  drop() {
    if (this.at !== 0) this.engine.free(this.at);
    this.at = 0;
  }
}

async function collect(engine, total, from, report, signal, pieces) {
  const collector = new Collector(engine, total, from, report);
  try {
    report(0, total);
    for await (const piece of pieces) {
      signal.throwIfAborted();
      collector.add(piece);
    }
    return collector.finish();
  } catch (error) {
    collector.drop();
    throw error;
  }
}

async function* piecesOf(stream, from) {
  const reader = stream.getReader();
  try {
    for (;;) {
      let next;
      try {
        next = await reader.read();
      } catch (error) {
        if (error?.name === "AbortError") throw error;
        throw failed("io", `${from} broke off: ${error.message}`);
      }
      if (next.done) return;
      yield next.value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function* piecesOfFile(handle) {
  for (;;) {
    const { bytesRead, buffer } = await handle.read(new Uint8Array(1 << 20), 0, 1 << 20, null);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

async function readFile(engine, path, report, signal) {
  const fs = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
  let handle;
  try {
    handle = await fs.open(path, "r");
    const stat = await handle.stat();
    if (!stat.isFile()) throw failed("invalid_argument", `${path} is no regular file`);
    return await collect(engine, stat.size, path, report, signal, piecesOfFile(handle));
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") throw failed("not_found", `${path}: there is no such file`);
    if (error.syscall) throw failed("io", `${path}: ${error.message}`);
    throw error;
  } finally {
    await handle?.close();
  }
}

// Content-Length counts what is sent, which is less than what arrives when it is compressed.
function lengthOf(response) {
  if (response.headers.get("content-encoding")) return 0;
  const length = Number(response.headers.get("content-length"));
  return Number.isSafeInteger(length) && length > 0 ? length : 0;
}

async function readResponse(engine, response, from, report, signal) {
  if (!response.body) throw failed("io", `${from} has no content`);
  return collect(engine, lengthOf(response), from, report, signal, piecesOf(response.body, from));
}

async function download(engine, url, report, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw failed("io", `${url} cannot be reached: ${error.cause?.message ?? error.message}`);
  }
  if (response.status === 404 || response.status === 410) {
    throw failed("not_found", `${url}: there is no such model (status ${response.status})`);
  }
  if (!response.ok) throw failed("io", `${url} answered with status ${response.status}`);
  return readResponse(engine, response, url, report, signal);
}

// ---- integrity -------------------------------------------------------------------------------------

const HASHES = { sha256: "SHA-256", sha384: "SHA-384", sha512: "SHA-512" };

/** The checks of an integrity attribute: any of them will do. */
export function parseIntegrity(text) {
  return text.trim().split(/\s+/).map((entry) => {
    const [, name, digest] = /^(sha256|sha384|sha512)-([A-Za-z0-9+/]+={0,2})(?:\?.*)?$/.exec(entry) ?? [];
    if (!name) {
      throw failed("invalid_argument", `integrity is "${entry}", must be like "sha256-" and a digest in base64`);
    }
    return { name, digest };
  });
}

async function verify(engine, place, integrity, from) {
  if (!integrity) return;
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) {
    throw failed("unsupported", "integrity cannot be checked here: browsers have crypto.subtle on https and localhost alone");
  }
  const found = [];
  for (const { name, digest } of integrity) {
    const sum = new Uint8Array(await subtle.digest(HASHES[name], engine.plain(place.at, place.size)));
    const text = btoa(String.fromCharCode(...sum));
    if (text === digest) return;
    found.push(`${name}-${text}`);
  }
  throw failed("integrity", `${from} is not what integrity asks for: it has ${found.join(" ")}`);
}

// ---- cache -----------------------------------------------------------------------------------------

// Null where there is none: in Node, and in browsers on pages that are neither https nor localhost.
async function openCache() {
  try {
    return await globalThis.caches.open(CACHE);
  } catch {
    return null;
  }
}

/** Removes a model from the cache; whether it was there. */
export async function forget(url) {
  const cache = await openCache();
  return cache ? cache.delete(url) : false;
}

async function store(engine, cache, url, place) {
  try {
    const headers = { "content-type": "application/octet-stream", "content-length": String(place.size) };
    await cache.put(url, new Response(engine.bytes(place.at, place.size).slice(), { headers }));
    return true;
  } catch {
    return false; // the browser gives no room; it works all the same
  }
}

// ---- all of it -------------------------------------------------------------------------------------

/**
 * Reads, verifies and opens the model. What is not whole, or is not what integrity asks for, is neither
 * opened nor stored; what is in the cache and has gone bad is removed and downloaded again.
 */
export async function openSource(engine, source, options, report, signal) {
  const integrity = options.integrity ? parseIntegrity(options.integrity) : null;
  const take = async (place, from) => {
    try {
      await verify(engine, place, integrity, from);
      signal.throwIfAborted();
      report({ stage: "open", loaded: place.size, total: place.size });
      engine.open(place.at, place.size, options.check !== false);
    } catch (error) {
      engine.free(place.at);
      throw error;
    }
    return place;
  };
  const telling = (stage) => (loaded, total) => report({ stage, loaded, total });

  if (source.bytes) {
    const at = engine.alloc(source.bytes.byteLength);
    engine.bytes(at, source.bytes.byteLength).set(source.bytes);
    const place = await take({ at, size: source.bytes.byteLength }, "the array");
    return { ...place, cached: false };
  }
  if (source.blob) {
    const pieces = piecesOf(source.blob.stream(), "the blob");
    const place = await collect(engine, source.blob.size, "the blob", telling("read"), signal, pieces);
    return { ...(await take(place, "the blob")), cached: false };
  }
  if (source.path !== undefined) {
    if (!isNode) throw failed("unsupported", "there are no files here; give a URL, a Blob or bytes");
    const place = await readFile(engine, source.path, telling("read"), signal);
    return { ...(await take(place, source.path)), cached: false };
  }

  const { url } = source;
  const cache = options.cache === false || !/^https?:/.test(url) ? null : await openCache();
  const stored = cache && options.cache !== "reload" ? await cache.match(url) : undefined;
  if (stored) {
    try {
      const place = await readResponse(engine, stored, `the stored ${url}`, telling("cache"), signal);
      return { ...(await take(place, `the stored ${url}`)), cached: true };
    } catch (error) {
      if (!["integrity", "corrupt", "io"].includes(error.code)) throw error;
      await cache.delete(url);
    }
  }
  const place = await download(engine, url, telling("download"), signal);
  await take(place, url);
  return { ...place, cached: cache ? await store(engine, cache, url, place) : false };
}
