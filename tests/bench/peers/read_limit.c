// How fast threads can read memory: what a program that reads all weights for every token cannot
// pass.
//
//   cc -O3 -march=native -pthread read_limit.c -o read_limit
//   ./read_limit THREADS BYTES        a line of JSON on stdout for each way of reading
//
// One stream of reads is not the limit: a core waits for each page's first lines, and gets more
// from several streams at once with prefetches ahead of them. So several numbers of streams and
// distances are tried, and the best is the limit. The buffer is read again and again, as weights
// are: with the model's size for BYTES, caches give to both what they give.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { kLine = 64, kBlock = 4 * kLine, kMaxThreads = 256, kMaxStreams = 16 };
enum { kRuns = 9, kPasses = 3 };

typedef uint64_t Line __attribute__((vector_size(kLine)));

typedef struct {
  const char *begin;
  size_t size;  // bytes, a multiple of kMaxStreams * kBlock
  int streams;
  size_t ahead;  // bytes from a read to its prefetch, 0: none
  pthread_barrier_t *barrier;
  double start[kRuns], end[kRuns];
  uint64_t sum;
} Share;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Always inlined, so that `streams` is a constant.
static inline __attribute__((always_inline)) uint64_t read_streams(const char *begin, size_t size,
                                                                   int streams, size_t ahead) {
  const size_t length = size / (size_t)streams;
  Line sum[4] = {{0}, {0}, {0}, {0}};
  for (size_t at = 0; at < length; at += kBlock) {
    for (int s = 0; s < streams; s++) {
      const char *p = begin + (size_t)s * length + at;
      for (size_t i = 0; i < 4; i++) {
        // May point past the buffer: a prefetch does not fault.
        if (ahead != 0) __builtin_prefetch((const void *)((uintptr_t)p + ahead + i * kLine), 0, 3);
        sum[i] ^= *(const Line *)(p + i * kLine);
      }
    }
  }
  const Line all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
  return all[0] ^ all[1] ^ all[2] ^ all[3] ^ all[4] ^ all[5] ^ all[6] ^ all[7];
}

static uint64_t read_share(const Share *share) {
  switch (share->streams) {
    case 1: return read_streams(share->begin, share->size, 1, share->ahead);
    case 2: return read_streams(share->begin, share->size, 2, share->ahead);
    case 4: return read_streams(share->begin, share->size, 4, share->ahead);
    case 8: return read_streams(share->begin, share->size, 8, share->ahead);
    default: return read_streams(share->begin, share->size, 16, share->ahead);
  }
}

static void *work(void *argument) {
  Share *share = argument;
  for (int run = 0; run < kRuns; run++) {
    pthread_barrier_wait(share->barrier);
    share->start[run] = now();
    for (int pass = 0; pass < kPasses; pass++) share->sum ^= read_share(share);
    share->end[run] = now();
  }
  return NULL;
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// Times all shares at once; a run lasts from the first start to the last end.
static int measure(Share *shares, int threads) {
  pthread_t id[kMaxThreads];
  for (int t = 0; t < threads; t++) {
    const int error = pthread_create(&id[t], NULL, work, &shares[t]);
    if (error != 0) {
      fprintf(stderr, "read_limit: cannot start thread %d of %d: %s\n", t + 1, threads,
              strerror(error));
      exit(1);  // the threads that wait at the barrier end with the process
    }
  }
  for (int t = 0; t < threads; t++) pthread_join(id[t], NULL);
  double speed[kRuns];
  for (int run = 0; run < kRuns; run++) {
    double start = shares[0].start[run], end = shares[0].end[run];
    for (int t = 1; t < threads; t++) {
      if (shares[t].start[run] < start) start = shares[t].start[run];
      if (shares[t].end[run] > end) end = shares[t].end[run];
    }
    speed[run] = kPasses * (double)shares[0].size * threads / (end - start);
  }
  qsort(speed, kRuns, sizeof(speed[0]), by_value);
  return printf("{\"threads\": %d, \"bytes\": %zu, \"streams\": %d, \"ahead\": %zu, "
                "\"best_gb_per_s\": %.2f, \"median_gb_per_s\": %.2f}\n",
                threads, shares[0].size * (size_t)threads, shares[0].streams, shares[0].ahead,
                speed[kRuns - 1] * 1e-9, speed[kRuns / 2] * 1e-9) > 0
             ? 0
             : 1;
}

int main(int argc, char **argv) {
  const int threads = argc == 3 ? atoi(argv[1]) : 0;
  const double bytes = argc == 3 ? atof(argv[2]) : 0;
  const size_t unit = kMaxStreams * kBlock;
  if (threads < 1 || threads > kMaxThreads || !(bytes >= (double)unit * threads && bytes <= 1e12)) {
    fprintf(stderr, "usage: read_limit THREADS BYTES, with 1 to %d threads and %zu bytes or more "
            "for each\n", kMaxThreads, unit);
    return 2;
  }
  const size_t share = (size_t)bytes / (size_t)threads / unit * unit;
  const size_t size = share * (size_t)threads;
  char *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffer == MAP_FAILED) {
    perror("read_limit: cannot get memory");
    return 1;
  }
  madvise(buffer, size, MADV_HUGEPAGE);  // a wish; the limit is without misses of the page tables
  memset(buffer, 1, size);

  static const int kStreams[] = {1, 2, 4, 8, 16};
  static const size_t kAhead[] = {0, 512, 1024, 2048, 4096};
  static Share shares[kMaxThreads];
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, (unsigned)threads);
  uint64_t sum = 0;
  for (size_t s = 0; s < sizeof(kStreams) / sizeof(kStreams[0]); s++) {
    for (size_t a = 0; a < sizeof(kAhead) / sizeof(kAhead[0]); a++) {
      for (int t = 0; t < threads; t++) {
        shares[t] = (Share){.begin = buffer + share * (size_t)t, .size = share,
                            .streams = kStreams[s], .ahead = kAhead[a], .barrier = &barrier};
      }
      if (measure(shares, threads) != 0) return 1;
      for (int t = 0; t < threads; t++) sum ^= shares[t].sum;
    }
  }
  if (sum == 0x5eed) fputs("", stderr);  // a use of what was read
  return 0;
}
