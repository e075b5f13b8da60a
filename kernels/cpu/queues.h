/* Tasks for threads: each takes those of its own queue in their order, then what is left of others'.

   What a thread fetches ahead is then for itself, and what neighbouring tasks read is in its caches;
   tasks may be small, so that threads end together though one is slower. */
#pragma once
#include "kernel.h"

enum { MOST_QUEUES = 64 };

struct queue {
  i64 next, till;
} __attribute__((aligned(128))); /* so that what one thread changes no other one reads */

struct queues {
  i64 count;
  struct queue of[MOST_QUEUES];
};

static void fill_queues(struct queues *all, i64 threads, i64 tasks) {
  all->count = min_i64(threads, MOST_QUEUES);
  for (i64 i = 0; i < all->count; i++) {
    all->of[i].next = tasks * i / all->count;
    all->of[i].till = tasks * (i + 1) / all->count;
  }
}

/* The next task of the calling thread, or -1. ended: how many queues it has found empty, first 0. */
static i64 next_task(struct queues *all, i64 *ended) {
  for (i64 mine = omp_get_thread_num(), task; *ended < all->count; ++*ended) {
    struct queue *queue = &all->of[(mine + *ended) % all->count];
#pragma omp atomic capture
    task = queue->next++;
    if (task < queue->till) return task;
  }
  return -1;
}

/* The task after one in its queue, or the one if it is the last. */
INLINE i64 task_after(const struct queues *all, i64 task) {
  i64 i = 0;
  while (task >= all->of[i].till) i++;
  return min_i64(task + 1, all->of[i].till - 1);
}
