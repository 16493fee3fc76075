// How many instructions a program executes in user space, one step at a time.
//   count FILE COMMAND [ARG...]
// FILE gets two lines: "itself N", all threads of the command's own process, and "init N", all processes that it
// starts which execute the same program again. What executes another program is let go at that moment and not counted.
// The exit status is the command's.
//
// Single steps because they see a program as it is: valgrind 3.19 does not know openat2 and the mount API, and virtual
// machines seldom have the processor's own counter. It knows nothing of rbuild. Linux on x86-64 only.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum kind { NEW, ITSELF, INIT };
enum { PIDS = 1 << 22 }; // the kernel's upper limit of pid_max

static unsigned char kind_of[PIDS]; // by thread
static long last_address[PIDS];     // by thread
static long counts[3];

static void die(const char *what) {
  fprintf(stderr, "count: %s: %s\n", what, strerror(errno));
  exit(125);
}

static void step(pid_t thread, int signal) {
  // A thread may have been killed since it stopped; its end is then reported by waitpid.
  if (ptrace(PTRACE_SINGLESTEP, thread, NULL, (void *)(long)signal) && errno != ESRCH) die("PTRACE_SINGLESTEP");
}

// A new thread is of its process's kind, a new process of its parent's until it executes something.
static enum kind kind_of_new(pid_t thread) {
  char path[32], line[128];
  int process = 0, parent = 0;
  snprintf(path, sizeof path, "/proc/%d/status", thread);
  FILE *status = fopen(path, "re");
  if (!status) return ITSELF;
  while (fgets(line, sizeof line, status)) {
    sscanf(line, "Tgid: %d", &process);
    sscanf(line, "PPid: %d", &parent);
  }
  fclose(status);
  enum kind of_process = kind_of[process], of_parent = kind_of[parent];
  return of_process != NEW ? of_process : of_parent != NEW ? of_parent : ITSELF;
}

static int executes(pid_t process, const struct stat *program) {
  char path[32];
  struct stat found;
  snprintf(path, sizeof path, "/proc/%d/exe", process);
  return stat(path, &found) == 0 && found.st_dev == program->st_dev && found.st_ino == program->st_ino;
}

static void stopped(pid_t thread, int status, const struct stat *program) {
  int signal = WSTOPSIG(status), event = status >> 16;
  int first = kind_of[thread] == NEW;
  if (first) kind_of[thread] = kind_of_new(thread);
  if (event == PTRACE_EVENT_EXEC) {
    if (!executes(thread, program)) {
      ptrace(PTRACE_DETACH, thread, NULL, NULL);
      return;
    }
    kind_of[thread] = INIT;
  } else if (event == 0 && signal == SIGTRAP) {
    // A repeated string instruction traps once for each repetition.
    long address = ptrace(PTRACE_PEEKUSER, thread, (void *)offsetof(struct user, regs.rip), NULL);
    counts[kind_of[thread]] += address != last_address[thread];
    last_address[thread] = address;
  } else if (event == 0 && !(first && signal == SIGSTOP)) {
    step(thread, signal);
    return;
  }
  step(thread, 0);
}

int main(int argc, char **argv) {
  if (argc < 3) return fprintf(stderr, "usage: count FILE COMMAND [ARG...]\n"), 125;
  // One processor: threads take turns, and the program sees one processor on every machine.
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  if (sched_setaffinity(0, sizeof one, &one)) die("sched_setaffinity");
  struct stat program;
  if (stat(argv[2], &program)) die(argv[2]);

  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    personality(ADDR_NO_RANDOMIZE);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    execv(argv[2], argv + 2);
    die(argv[2]);
  }
  int status, result = 0;
  waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return 125;
  long options = PTRACE_O_EXITKILL;
  options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
  if (ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)options)) die("PTRACE_SETOPTIONS");
  kind_of[child] = ITSELF;
  step(child, 0);
  for (pid_t thread; (thread = waitpid(-1, &status, __WALL)) > 0;) {
    if (WIFSTOPPED(status)) {
      stopped(thread, status, &program);
      continue;
    }
    kind_of[thread] = NEW; // its number may be given again
    if (thread == child) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  FILE *out = fopen(argv[1], "we");
  if (!out) die(argv[1]);
  fprintf(out, "itself %ld\ninit %ld\n", counts[ITSELF], counts[INIT]);
  return fclose(out) ? 125 : result;
}
