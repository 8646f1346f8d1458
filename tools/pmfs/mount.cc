// pmfs mount, pmfs umount: a volume as a file system of the kernel's, served by a manager of its own. Manager's side: no
// client headers here.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"
#include "tools/pmfs/serve.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

struct MountCommand {
  ServeOptions serve;
  std::string log;
  bool foreground = false;
};

[[noreturn]] void sys_fail(const std::string& what) { fail(errno, "{}: {}", what, std::strerror(errno)); }

// The parent returns when the mount is there, or says why it is not, and the child goes on behind the terminal's back.
// Before any thread is made.
void go_to_background(MountCommand& m) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) sys_fail("mount: pipe");
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) sys_fail("mount: fork");
  if (pid != 0) {
    write_end = UniqueFd();
    char byte;
    ssize_t n;
    do {
      n = ::read(read_end.get(), &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1) ::_exit(0);
    int status = 0;  // it has ended without a word: the reason stands on our standard error
    ::waitpid(pid, &status, 0);
    ::_exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1);
  }
  ::setsid();
  m.serve.ready_fd = ::fcntl(write_end.get(), F_DUPFD_CLOEXEC, 3);
  if (m.serve.ready_fd < 0) sys_fail("mount: dup");
}

void mount(MountCommand& m) {
  std::error_code e;
  // Absolute: the background process and umount need the same names from anywhere.
  m.serve.dir = std::filesystem::absolute(m.serve.dir, e).lexically_normal();
  m.serve.mount.dir = std::filesystem::absolute(m.serve.mount.dir, e).lexically_normal();
  m.serve.server.volume = m.serve.dir;
  let_it_end(m.serve.dir);
  if (!m.foreground) {
    if (m.log.empty()) m.log = m.serve.dir + "/manager.log";
    go_to_background(m);
    m.serve.log = m.log;
  }
  run_manager(m.serve);
}

// The source of the last mount of a pmfs volume on `dir`.
std::string mounted_volume(const std::string& dir) {
  std::ifstream in("/proc/self/mounts");
  std::string line, found;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string source, target, type;
    if (words >> source >> target >> type && target == dir && type == "fuse.pmfs") found = source;
  }
  return found;
}

void umount(const std::string& where, bool lazy, double timeout) {
  std::error_code e;
  const std::string dir = std::filesystem::absolute(where, e).lexically_normal();
  const std::string volume = mounted_volume(dir);
  if (volume.empty()) fail(EINVAL, "{}: no pmfs volume is mounted there", dir);
  if (::umount2(dir.c_str(), lazy ? MNT_DETACH : 0) != 0) {
    if (errno != EPERM) {
      fail(errno, "{}: {}{}", dir, std::strerror(errno), errno == EBUSY ? "; close what is open there and leave it, or unmount lazily (-l)" : "");
    }
    const pid_t pid = ::fork();
    if (pid < 0) sys_fail("umount: fork");
    if (pid == 0) {
      ::execlp("fusermount3", "fusermount3", lazy ? "-uz" : "-u", dir.c_str(), nullptr);
      ::_exit(127);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail(EPERM, "{}: fusermount3 could not unmount it", dir);
  }
  if (lazy) return;
  // The manager unmounts the volume then: when this returns it can be served again.
  if (!wait_for_end(volume, timeout)) fail(EBUSY, "{}: unmounted, but the manager of {} goes on", dir, volume);
}

}  // namespace

void add_mount(CLI::App& app, Context& c) {
  auto m = std::make_shared<MountCommand>();
  CLI::App* cmd = add_command(
      app, c, "mount", "Serve a volume and mount it, in the background, until it is unmounted",
      "  pmfs mount /dev/shm/vol /mnt\n"
      "  pmfs mount /dev/shm/vol /mnt -o allow_other -o ro\n"
      "  pmfs umount /mnt\n"
      "Native clients can use the volume meanwhile: both see the same bytes at once. A shared mmap of a\n"
      "file on the mount is refused (ENODEV); libpmfs maps files.\n"
      "\n"
      "Mount options of pmfs's own:\n"
      "  max_threads=N      threads that answer the kernel\n"
      "  halt_poll=WHEN     whether idle processors poll, instead of halting, while requests come one after\n"
      "                     another: who waits for an answer is woken sooner. always; never; auto: in a guest of\n"
      "                     up to eight processors, if /dev/cpu_dma_latency can be opened (root)\n",
      [m] { mount(*m); });
  cmd->add_option("VOLUME", m->serve.dir, "directory of the volume")->required();
  cmd->add_option("DIR", m->serve.mount.dir, "where")->required();
  cmd->add_option("-o", m->serve.mount.options,
                  "mount options: ro, allow_other, nosuid, nodev, noexec, max_threads=N, halt_poll=WHEN, ...");
  cmd->add_flag("-f,--foreground", m->foreground, "stay in the foreground, and log to standard error");
  cmd->add_option("--log", m->log, "where the background process logs to; default: VOLUME/manager.log");
  cmd->add_option("--threads", m->serve.mount.threads, "that answer the kernel")->check(CLI::Range(1, 64))->capture_default_str();
  cmd->add_option("--socket-mode", m->serve.socket_mode, "who may connect natively, and so reach every file's data")
      ->capture_default_str();
  cmd->add_option("--read-only-socket-mode", m->serve.read_only_socket_mode,
                  "make a second socket, for native clients that only read, with this mode: who may read every file's data");

  struct Umount {
    std::string dir;
    bool lazy = false;
    double timeout = 30;
  };
  auto u = std::make_shared<Umount>();
  CLI::App* un = add_command(app, c, "umount", "Unmount a volume, and wait until its manager has ended",
                             "  pmfs umount /mnt\n", [u] { umount(u->dir, u->lazy, u->timeout); });
  un->add_option("DIR", u->dir, "where it is mounted")->required();
  un->add_flag("-l,--lazy", u->lazy, "now, though files are open: the manager ends when they are closed; don't wait for it");
  un->add_option("--timeout", u->timeout, "seconds to wait for the manager")->check(CLI::Range(0.0, 3600.0))->capture_default_str();
}

}  // namespace pmfs::cli
