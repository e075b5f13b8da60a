/* The memory of arrays: blocks that are kept when they are freed and given out again.

   Writing memory that is fresh from the system costs several times what writing used memory
   does: each page must be found, cleared and mapped. Memory is therefore taken in large regions,
   backed by huge pages where the system has them. A request gets the smallest free block that is
   large enough, cut to size; a freed block is joined with its free neighbours. What is kept thus
   stays near the greatest sum of blocks in use at one time, whatever their sizes were. */
#pragma once
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
  BLOCK_GRAIN = 4096,       /* sizes and places of blocks are multiples of a page */
  HUGE_PAGE = 2 << 20,      /* regions start and end at multiples of a huge page */
  LEAST_REGION = 256 << 20, /* address space only: untouched pages take no memory */
  BUCKETS = 4096,           /* of the table of blocks in use */
  EPOCH = 4096,             /* requests between two looks at how much is worth keeping */
  SPARE_MEMORY = 16 << 20   /* kept beyond that, and a 16th of it */
};

typedef struct block {
  char *start;
  size_t size;
  size_t resident;               /* of a free block: about so many bytes hold memory */
  struct block *before, *after;  /* neighbours in the region; NULL at its ends */
  struct block *next, **from;    /* the list of free blocks, or a bucket of those in use */
  int free;
} Block;

static pthread_mutex_t block_lock = PTHREAD_MUTEX_INITIALIZER;
static Block *free_blocks, *used_blocks[BUCKETS];
static struct {
  i64 live, cached, peak, mapped, hits, misses; /* the first four in bytes */
} memory;
static i64 requests, peaks[2]; /* the most in use at a time in this epoch and the one before */

static Block **bucket(const char *start) {
  return &used_blocks[(uintptr_t)start / BLOCK_GRAIN * 0x9E3779B97F4A7C15u >> 52];
}

static void block_insert(Block *b, Block **list) {
  b->next = *list;
  b->from = list;
  if (b->next) b->next->from = &b->next;
  *list = b;
}

static void block_remove(Block *b) {
  *b->from = b->next;
  if (b->next) b->next->from = b->from;
}

/* Make one free block of b and the free block after it. */
static void block_join(Block *b) {
  Block *gone = b->after;
  block_remove(gone);
  b->size += gone->size;
  b->resident += gone->resident;
  b->after = gone->after;
  if (b->after) b->after->before = b;
  free(gone);
}

/* Cut a block that has just left the free list to `size`; the rest is free. */
static void block_cut(Block *b, size_t size) {
  if (b->size == size) return;
  Block *rest = malloc(sizeof *rest);
  if (!rest) return; /* then the block stays larger than it need be */
  *rest = (Block){.start = b->start + size, .size = b->size - size, .free = 1};
  rest->resident = b->resident > size ? b->resident - size : 0;
  rest->before = b, rest->after = b->after;
  if (rest->after) rest->after->before = rest;
  b->after = rest;
  b->size = size;
  b->resident -= rest->resident;
  block_insert(rest, &free_blocks);
}

/* Take a region from the system: one free block, or NULL. */
static Block *region_map(size_t size) {
  Block *b = malloc(sizeof *b);
  if (!b) return NULL;
  char *start = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    free(b);
    return NULL;
  }
  size_t skip = -(uintptr_t)start & (HUGE_PAGE - 1);
  if (skip) munmap(start, skip);
  munmap(start + skip + size, HUGE_PAGE - skip);
  start += skip;
#ifdef MADV_HUGEPAGE
  madvise(start, size, MADV_HUGEPAGE);
#endif
  *b = (Block){.start = start, .size = size, .free = 1};
  block_insert(b, &free_blocks);
  memory.mapped += size;
  return b;
}

/* The smallest free block of at least `size`. The end of a region comes last: it can still grow
   into the largest block, and most often has not been touched. */
static Block *best_block(size_t size) {
  Block *best = NULL, *end = NULL;
  for (Block *b = free_blocks; b; b = b->next) {
    Block **kind = b->after ? &best : &end;
    if (b->size >= size && (!*kind || b->size < (*kind)->size)) *kind = b;
  }
  return best ? best : end;
}

/* Give the memory of free blocks back to the system, the largest first, until `keep` bytes are
   cached; not that of `spared`. Regions that are wholly free go too when nothing is to be kept. */
static void give_back(i64 keep, const Block *spared) {
  while (memory.cached > keep) {
    Block *largest = NULL;
    for (Block *b = free_blocks; b; b = b->next)
      if (b != spared && b->resident > (largest ? largest->resident : 0)) largest = b;
    if (!largest) return;
    madvise(largest->start, largest->size, MADV_DONTNEED);
    memory.cached -= largest->resident;
    largest->resident = 0;
  }
  if (keep > 0) return;
  for (Block *b = free_blocks, *next; b; b = next) {
    next = b->next;
    if (b->before || b->after) continue;
    munmap(b->start, b->size);
    memory.mapped -= b->size;
    block_remove(b);
    free(b);
  }
}

/* Keep little more than what was in use at a time in the last two epochs. Before `size` bytes of b
   are used of which some are new memory: blocks that are too small for what is wanted add up. */
static void keep_what_is_needed(const Block *b, size_t size) {
  i64 needed = peaks[0] > peaks[1] ? peaks[0] : peaks[1];
  if (needed < memory.live + (i64)size) needed = memory.live + size;
  i64 fresh = b ? size - b->resident : 0;
  i64 most = needed + needed / 16 + SPARE_MEMORY - memory.live - fresh;
  if (memory.cached > most) give_back(most > 1 ? most : 1, b);
}

static void count_request(void) {
  if (memory.live > memory.peak) memory.peak = memory.live;
  if (memory.live > peaks[0]) peaks[0] = memory.live;
  if (++requests % EPOCH) return;
  keep_what_is_needed(NULL, 0);
  peaks[1] = peaks[0];
  peaks[0] = memory.live;
}

/* A free block of at least `size`, of new memory if there must be. */
static Block *find_block(size_t size) {
  Block *b = best_block(size);
  if (b) return b;
  size_t least = (size + HUGE_PAGE - 1) & -(size_t)HUGE_PAGE;
  size_t wanted = memory.mapped > LEAST_REGION ? memory.mapped : LEAST_REGION;
  if (wanted > least) b = region_map(wanted);
  if (!b) b = region_map(least);
  if (b) return b;
  give_back(0, NULL);
  return region_map(least);
}

/* `size` bytes at the start of a page, of any contents; NULL when there is no more memory. */
char *memory_allocate(size_t size) {
  if (size > PTRDIFF_MAX - 2 * (size_t)HUGE_PAGE) return NULL;
  size = (size + BLOCK_GRAIN - 1) & -(size_t)BLOCK_GRAIN;
  pthread_mutex_lock(&block_lock);
  Block *b = find_block(size);
  if (b) {
    if (b->resident < size) {
      memory.misses++;
      keep_what_is_needed(b, size);
    } else {
      memory.hits++;
    }
    block_remove(b);
    block_cut(b, size);
    b->free = 0;
    memory.cached -= b->resident;
    memory.live += b->size;
    block_insert(b, bucket(b->start));
    count_request();
  }
  char *start = b ? b->start : NULL;
  pthread_mutex_unlock(&block_lock);
  return start;
}

/* Take back a block that memory_allocate gave. */
void memory_release(char *start) {
  pthread_mutex_lock(&block_lock);
  Block *b = *bucket(start);
  while (b && b->start != start) b = b->next;
  if (b) {
    block_remove(b);
    b->free = 1;
    b->resident = b->size;
    memory.live -= b->size;
    memory.cached += b->size;
    block_insert(b, &free_blocks);
    if (b->after && b->after->free) block_join(b);
    if (b->before && b->before->free) block_join(b->before);
  }
  pthread_mutex_unlock(&block_lock);
}

/* Give everything that is not in use back to the system. */
void memory_trim(void) {
  pthread_mutex_lock(&block_lock);
  give_back(0, NULL);
  pthread_mutex_unlock(&block_lock);
}

/* live, cached, peak, mapped, hits, misses */
void memory_stats(i64 *figures) {
  pthread_mutex_lock(&block_lock);
  *(__typeof__(memory) *)figures = memory;
  pthread_mutex_unlock(&block_lock);
}

static void block_lock_take(void) { pthread_mutex_lock(&block_lock); }
static void block_lock_leave(void) { pthread_mutex_unlock(&block_lock); }

/* A child must not inherit the lock of a thread that it does not have. */
__attribute__((constructor)) static void memory_at_fork(void) {
  pthread_atfork(block_lock_take, block_lock_leave, block_lock_leave);
}
