/* How many threads the kernels run on. */
#pragma once
#include <omp.h>
#include <pthread.h>

static int threads_wanted; /* 0: as many as OpenMP chose, by OMP_NUM_THREADS or the processors */

int threads(void) { return threads_wanted ? threads_wanted : omp_get_max_threads(); }

/* OpenMP keeps the number for each thread that calls it: others adopt it before they compute. */
void adopt_threads(void) {
  if (threads_wanted) omp_set_num_threads(threads_wanted);
}

void set_threads(int n) {
  threads_wanted = n;
  adopt_threads();
}

/* GNU OpenMP in a child process waits for ever for threads that only the parent has. They are
   ended before the fork; parent and child start new ones when they need them. */
#if defined(__GNUC__) && !defined(__clang__)
static void end_threads(void) { omp_pause_resource_all(omp_pause_soft); }
__attribute__((constructor)) static void threads_at_fork(void) {
  pthread_atfork(end_threads, NULL, NULL);
}
#endif
