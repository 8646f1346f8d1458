// Read-only clients. On a volume that is gated for everybody else their VMAs are direct, as in acked mode: they are asked to let go
// of blocks, which stay quarantined until they have. And nothing that they are given can store to the volume.
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "pmfs/base/pause.h"
#include "tests/integration/asked_fixture.h"
#include "tests/integration/restart_fixture.h"

using namespace pmfs;
using namespace pmfs::proto;
using namespace pmfs::test;

namespace {

constexpr const char* kBytes = "1048576";
constexpr uint32_t kNobody = 65534;
const Restart::Args kServed{"--read-only-socket-mode", "600"};

server::ServerOptions for_readers(double fence = 600) {
  server::ServerOptions o = with_pagers();
  o.read_only_socket_mode = 0600;
  o.fence_seconds = fence;
  return o;
}

std::unique_ptr<ClientProcess> reader_of(const std::string& volume) {
  auto c = std::make_unique<ClientProcess>();
  c->ok("connect " + volume + " ro");
  return c;
}

// W has /f full of 17 and mapped; R, a read-only client, has loaded from it at 8192.
void set_up(ClientProcess& w, ClientProcess& r) {
  w.ok("open f /f rwc");
  w.ok(std::string("truncate f ") + kBytes);
  w.ok(std::string("map f m 0 ") + kBytes);
  CHECK(w.cmd(std::string("write f 0 ") + kBytes + " 17") == kBytes);
  r.ok("open f /f r");
  r.ok(std::string("map f m 0 ") + kBytes + " ro");
  CHECK(r.cmd("load m 8192") == "17");
}

struct Pair : Asked {
  std::unique_ptr<ClientProcess> w, r;
  explicit Pair(server::ServerOptions o = for_readers()) : Asked(std::move(o)), w(m.client()), r(reader_of(m.path())) { set_up(*w, *r); }
  bool quarantined(Pfn block) {
    const meta::BlockState s = m.volume().store().block_state(block);
    return !in_a_file(block) && s != meta::BlockState::kFree && s != meta::BlockState::kReserved && m.volume().quarantine().live() != 0;
  }
  // All but `left` of the blocks that /f does not have, when it has 256; -1: it has 255.
  void take_all_blocks(int left) {
    const std::string bytes = std::to_string(static_cast<uint64_t>(16384 - 256 - left) * kBlockSize);
    w->ok("open g /g rwc");
    CHECK(w->cmd("write g 0 " + bytes + " 85") == bytes);
  }
};

bool failed(const std::string& reply, int err) {
  UNSCOPED_INFO(reply);
  return reply.rfind("err " + std::to_string(err) + " ", 0) == 0;
}

struct stat stat_of(const std::string& path) {
  struct stat st {};
  REQUIRE(::stat(path.c_str(), &st) == 0);
  return st;
}

}  // namespace

TEST_CASE("read-only: sees what others store, at once, and can store nothing itself", "[read_only]") {
  Pair p;
  p.w->ok("store m 8192 3");
  CHECK(p.r->cmd("load m 8192") == "3");
  CHECK(p.w->cmd("write f 0 4096 4") == "4096");
  CHECK(p.r->cmd("load m 0") == "4");
  CHECK(p.r->cmd("read f 8193 1").find("uniform 17") != std::string::npos);
  CHECK_FALSE(present_ptes(p.r->pid(), p.m.path() + "/data").empty());  // it is no copy
  CHECK(p.r->cmd("store m 8192 9") == "sigsegv");
  CHECK(p.r->cmd("store m 65536 9") == "sigsegv");
  CHECK(failed(p.r->cmd("map f n 0 4096"), EACCES));
  CHECK(failed(p.r->cmd("protect m 8192 4096 rw"), EACCES));
  CHECK(failed(p.r->cmd("rawprotect m 8192 4096 rw"), EACCES));  // the kernel's word: the descriptor is not one to store by
  CHECK(p.r->cmd("store m 8192 9") == "sigsegv");
  CHECK(p.w->cmd("load m 8192") == "3");
  p.r->ok("protect m 8192 4096 ro");
  p.r->ok("fsync f");
  p.m.check_clean();
}

TEST_CASE("read-only: what would change the volume is EROFS", "[read_only]") {
  Pair p;
  p.w->ok("mkdir /d");
  const std::string before = p.w->cmd("ls /"), stat = p.w->cmd("statp /f");
  for (const char* flags : {"rw", "w", "rc", "rwc", "rt", "ra"}) CHECK(failed(p.r->cmd(std::string("open x /f ") + flags), EROFS));
  for (const char* op : {"truncate f 0", "punch f 0 4096", "zero f 0 4096", "prealloc f 0 8388608", "collapse f 0 4096", "insert f 0 4096",
                         "write f 0 1 1", "append f 1 1", "clone f 0 f 524288 4096", "unlink /f", "mkdir /e", "rmdir /d", "rename /f /e"}) {
    CAPTURE(op);
    CHECK(failed(p.r->cmd(op), EROFS));
  }
  CHECK(p.w->cmd("ls /") == before);
  CHECK(p.w->cmd("statp /f") == stat);
  p.w->ok(std::string("check m 0 ") + kBytes + " 17");
  p.m.check_clean();
}

TEST_CASE("read-only: a punch and a truncate under it are seen when they have returned", "[read_only]") {
  Pair p;
  const Pfn block = p.block_of(8192);
  p.w->ok("punch f 8192 4096");
  for (const PresentPte& pte : present_ptes(p.r->pid(), p.m.path() + "/data")) CHECK(pte.pfn != block);
  CHECK(p.r->cmd("load m 8192") == "0");
  CHECK(p.r->cmd("load m 12288") == "17");
  p.w->ok("truncate f 4096");
  CHECK(p.r->cmd("load m 8192") == "sigbus");
  p.w->ok(std::string("truncate f ") + kBytes);
  CHECK(p.r->cmd("load m 8192") == "0");
  CHECK(p.r->cmd("load m 0") == "17");
  CHECK(p.idle());
  CHECK(p.m.volume().space().blocks_deferred == 0);
  p.m.check_clean();
}

TEST_CASE("read-only: zeros of holes, of unwritten and of volatile zero blocks go when somebody stores there", "[read_only]") {
  Pair p;
  p.w->ok(std::string("punch f 0 ") + kBytes);
  CHECK(p.r->cmd("load m 4096") == "0");
  CHECK(p.m.volume().stat("/f").blocks == 0);  // its loads take no block
  CHECK(p.m.volume().counters().zero_blocks.get() == 0);
  p.w->ok("store m 4096 5");
  CHECK(p.r->cmd("load m 4096") == "5");
  CHECK(p.w->cmd("load m 131072") == "0");  // gated: a zero block, which is nobody's yet
  CHECK(p.r->cmd("load m 131072") == "0");
  p.w->ok("store m 131072 6");
  CHECK(p.r->cmd("load m 131072") == "6");
  p.w->ok("prealloc f 262144 65536");
  CHECK(p.r->cmd("load m 262144") == "0");
  CHECK(p.w->cmd("write f 262144 4096 7") == "4096");
  CHECK(p.r->cmd("load m 262144") == "7");
  p.w->ok("zero f 262144 4096");  // it has the block mapped, which stays the file's
  CHECK(p.r->cmd("load m 262144") == "0");
  p.w->ok("store m 262144 8");
  CHECK(p.r->cmd("load m 262144") == "8");
  p.r->stop();
  p.w->ok("store m 8192 9");  // of a hole: nobody is waited for
  p.r->kill(SIGCONT);
  CHECK(p.r->cmd("load m 8192") == "9");
  p.m.check_clean();
}

// Interleaving 18 with a reader: its VMA of the block that has left the file is one that the kernel resolves faults on.
TEST_CASE("read-only: interleaving 18: no block is used again that a stopped reader has mapped", "[read_only]") {
  const bool asked = GENERATE(true, false);  // false: the control
  server::ServerOptions o = for_readers();
  o.ask_readers = asked;
  if (!asked && std::getenv("PMFS_TEST_ACKED") != nullptr) return;
  Pair p(o);
  const Pfn block = p.block_of(8192);
  p.r->stop();
  p.w->ok("async 1 punch f 8192 4096");
  CHECK(p.pending_for_good(*p.w, "1") == asked);
  // Everybody else goes on: this page, other pages, other files.
  CHECK(p.w->cmd("load m 8192") == "0");
  if (asked) p.w->ok("store m 8192 9");  // in the control the block would be this file's again
  p.w->ok("store m 12288 10");
  p.take_all_blocks(asked ? 1 : -1);
  CHECK(p.quarantined(block) == asked);
  CHECK(p.in_a_file(block) != asked);
  p.r->kill(SIGCONT);
  CHECK(p.w->cmd("wait 1") == "ok");
  CHECK(p.r->cmd("load m 8192") == (asked ? "9" : "85"));
  if (!asked) return;
  CHECK(p.idle());
  CHECK(p.m.volume().space().blocks_deferred == 0);
  p.m.check_clean();
}

TEST_CASE("read-only: a load while the blocks are quarantined shows zeros, and maps nothing that is free later", "[read_only]") {
#ifdef PMFS_PAUSE_POINTS
  Pair p;
  const Pfn block = p.block_of(8192);
  pause::Gate gate("acked:answered");  // the last answer is in
  pause::Gate before("invalidate:before_zap");
  p.w->ok("async 1 punch f 8192 4096");
  REQUIRE(before.wait_arrived());
  CHECK(p.r->cmd("load m 8192") == "17");  // not zapped yet
  before.release();
  REQUIRE(gate.wait_arrived());
  CHECK_FALSE(p.in_a_file(block));
  for (const PresentPte& pte : present_ptes(p.r->pid(), p.m.path() + "/data")) CHECK(pte.pfn != block);
  gate.release();
  CHECK(p.w->cmd("wait 1") == "ok");
  CHECK(p.r->cmd("load m 8192") == "0");
  CHECK(p.idle());
  p.m.check_clean();
#endif
}

TEST_CASE("read-only: who does not let go is fenced, and then the blocks are free", "[read_only]") {
  Pair p(for_readers(0.2));
  p.r->stop();
  p.w->ok("punch f 8192 4096");  // returns: R was killed
  p.r->wait_exit();
  CHECK(p.idle());
  p.take_all_blocks(0);
  p.m.check_clean();
}

TEST_CASE("read-only: its death is an answer, hanging up is none", "[read_only]") {
  const bool hangs_up = GENERATE(false, true);
  Pair p;
  const Pfn block = p.block_of(8192);
  p.r->stop();
  if (hangs_up) {
    for (auto& s : p.m.server().sessions())
      if (s->peer.pid == p.r->pid()) ::shutdown(s->socket(), SHUT_RDWR);
    for (int i = 0; i < 4000 && p.m.volume().strangers() == 0; ++i) ::usleep(1000);
    REQUIRE(p.m.volume().direct_strangers() == 1);
  }
  p.w->ok("async 1 truncate f 0");
  CHECK(p.pending_for_good(*p.w, "1"));
  CHECK(p.quarantined(block));
  p.r->kill(SIGKILL);
  CHECK(p.w->cmd("wait 1") == "ok");
  CHECK(p.idle());
  p.take_all_blocks(0);
  p.m.check_clean();
}

TEST_CASE("read-only: blocks that move, or are shared, are let go of first", "[read_only]") {
  Pair p;
  p.w->ok("fill m 0 4096 1");
  p.w->ok("fill m 4096 4096 2");
  CHECK(p.r->cmd("load m 0") == "1");
  p.r->stop();
  p.w->ok("async 1 collapse f 0 4096");
  CHECK(p.pending_for_good(*p.w, "1"));
  CHECK(p.w->cmd("load m 0") == "1");  // not begun
  p.r->kill(SIGCONT);
  CHECK(p.w->cmd("wait 1") == "ok");
  CHECK(p.r->cmd("load m 0") == "2");
  CHECK(p.r->cmd("load m 8192") == "17");
  p.w->ok("store m 0 3");
  CHECK(p.r->cmd("load m 0") == "3");
  p.w->ok("insert f 0 4096");
  CHECK(p.r->cmd("load m 0") == "0");
  CHECK(p.r->cmd("load m 4096") == "3");
  p.w->ok("open g /g rwc");
  p.w->ok("clone f 0 g 0");
  CHECK(p.r->cmd("load m 4096") == "3");  // a block of its own now
  p.w->ok("store m 4096 4");
  CHECK(p.r->cmd("load m 4096") == "4");
  CHECK(p.w->cmd("read g 4096 1").find("uniform 3") != std::string::npos);
  p.m.check_clean();
}

TEST_CASE("read-only: a child has what its parent had, and is asked too", "[read_only]") {
  Pair p;
  auto child = p.r->fork();
  CHECK(child->cmd("load m 8192") == "17");
  CHECK(child->cmd("store m 8192 1") == "sigsegv");
  CHECK(failed(child->cmd("truncate f 0"), EROFS));
  child->stop();
  p.w->ok("async 1 punch f 8192 4096");
  CHECK(p.pending_for_good(*p.w, "1"));
  child->kill(SIGCONT);
  CHECK(p.w->cmd("wait 1") == "ok");
  CHECK(child->cmd("load m 8192") == "0");
  CHECK(p.r->cmd("load m 8192") == "0");
  p.m.check_clean();
}

TEST_CASE("read-only: what is unmapped is let go of before the manager forgets it", "[read_only]") {
  Pair p;
  p.r->ok("unmap m");
  CHECK(present_ptes(p.r->pid(), p.m.path() + "/data").empty());
  p.r->stop();
  p.w->ok("punch f 8192 4096");
  p.r->kill(SIGCONT);
  p.m.check_clean();
}

TEST_CASE("read-only: it comes to the next manager, with its mappings", "[read_only][restart]") {
  Restart r(kServed);
  auto w = r.client(), reader = reader_of(r.path());
  set_up(*w, *reader);
  r.restart(kServed);
  w->ok("store m 8192 5");
  CHECK(reader->cmd("load m 8192") == "5");
  CHECK(reader->cmd("store m 8192 6") == "sigsegv");
  CHECK(failed(reader->cmd("truncate f 0"), EROFS));
  w->ok("punch f 8192 4096");
  CHECK(reader->cmd("load m 8192") == "0");
  reader->ok("open again /f r");
  w.reset();
  reader.reset();
  r.check_clean();
}

TEST_CASE("read-only: the next manager grants no block that a reader of the dead one may still have mapped", "[read_only][restart]") {
  const bool dies = GENERATE(true, false);
  Restart r(kServed);
  auto w = r.client(), reader = reader_of(r.path());
  set_up(*w, *reader);
  reader->ok(std::string("check m 0 ") + kBytes + " 17");
  reader->stop();
  w->ok(std::string("async 1 punch f 0 ") + kBytes);
  for (int i = 0; i < 4000 && r.statfs().blocks_deferred == 0; ++i) ::usleep(1000);
  r.restart(kServed);
  CHECK(failed(w->cmd("wait 1"), EOWNERDEAD));
  CHECK(r.statfs().blocks_deferred == 256);
  w->ok("open g /g rwc");
  CHECK(w->cmd("write g 0 50331648 85") == "50331648");
  if (dies) {
    reader->kill(SIGKILL);
  } else {
    reader->kill(SIGCONT);
    CHECK(reader->cmd("load m 8192") != "85");
  }
  for (int i = 0; i < 4000 && r.statfs().blocks_deferred != 0; ++i) ::usleep(5000);
  CHECK(r.statfs().blocks_deferred == 0);
  if (!dies) reader->ok(std::string("check m 0 ") + kBytes + " 0");
  w.reset();
  reader.reset();
  r.check_clean();
}

// The other way round: a writer of a gated volume has nothing that the zap at mount has not taken, so nothing waits for it.
TEST_CASE("read-only: a stopped writer of the dead manager keeps no block quarantined", "[read_only][restart][gated]") {
#ifdef PMFS_PAUSE_POINTS
  Restart r;
  auto w = r.client(), other = r.client();
  set_up(*w, *other);
  r.kill();
  r.start({"--pause", "invalidate:before_zap"});
  CHECK(other->cmd("read f 4096 1").find("uniform 17") != std::string::npos);  // it has come
  w->ok(std::string("async 1 punch f 0 ") + kBytes);
  r.manager().wait_arrived();
  other->stop();
  r.restart();
  CHECK(r.statfs().blocks_deferred == 0);
  other->kill(SIGCONT);
  CHECK(other->cmd("load m 8192") == "0");
  w.reset();
  other.reset();
  r.check_clean();
#endif
}

TEST_CASE("read-only: who has not come back from a dead manager is fenced too", "[read_only][restart]") {
  Restart r(kServed);
  auto w = r.client(), reader = reader_of(r.path());
  set_up(*w, *reader);
  reader->stop();
  Restart::Args args = kServed;
  args.insert(args.end(), {"--fence", "0.3"});
  r.restart(args);
  w->ok("punch f 8192 4096");
  reader->wait_exit();
  w.reset();
  reader.reset();
  r.check_clean();
}

TEST_CASE("read-only: the socket is there if asked for, with its mode, and is no way to more", "[read_only]") {
  {
    Manager none;
    CHECK_FALSE(std::filesystem::exists(none.path() + "/" + kReadOnlySocketName));
    ClientProcess c;
    CHECK(failed(c.cmd("connect " + none.path() + " ro"), ENOENT));
  }
  server::ServerOptions o;
  o.read_only_socket_mode = 0666;
  Manager m(o);
  CHECK((stat_of(m.path() + "/" + kReadOnlySocketName).st_mode & 07777) == 0666);
  CHECK((stat_of(m.path() + "/" + kSocketName).st_mode & 07777) == 0600);
  namespace fs = std::filesystem;
  for (const fs::path& d : {fs::path(m.path()), fs::path(m.path()).parent_path()})
    fs::permissions(d, fs::perms::others_read | fs::perms::others_exec, fs::perm_options::add);
  auto w = m.client();
  w->ok("open f /f rwc");
  CHECK(w->cmd("write f 0 4096 5") == "4096");
  ClientProcess nobody(kNobody);
  CHECK(failed(nobody.cmd("connect " + m.path()), EACCES));
  nobody.ok("connect " + m.path() + " ro");
  nobody.ok("open f /f r");
  nobody.ok("map f m 0 4096 ro");
  CHECK(nobody.cmd("load m 0") == "5");
  CHECK(nobody.cmd("store m 0 6") == "sigsegv");
  const std::string path = m.path();
  m.stop();
  CHECK_FALSE(fs::exists(path + "/" + kReadOnlySocketName));
}

TEST_CASE("read-only: a hostile client gets nothing that it could store with", "[read_only][hostile]") {
  server::ServerOptions o;
  o.read_only_socket_mode = 0600;
  Manager m(o);
  auto w = m.client();
  w->ok("open f /f rwc");
  CHECK(w->cmd("write f 0 1048576 17") == "1048576");
  w->ok("truncate f 2097152");
  const auto everything = [&] { return w->cmd("read f 0 2097152") + w->cmd("statp /f") + w->cmd("extents f") + w->cmd("ls /"); };
  const std::string before = everything();
  const uint64_t ino = to_u64(m.volume().lookup("/f")), generation = m.volume().stat("/f").generation;

  RawClient raw(m.path(), kReadOnlySocketName);
  CHECK(raw.welcome.acked == 1);
  const int region = raw.region.get();
  CHECK((::fcntl(region, F_GETFL) & O_ACCMODE) == O_RDONLY);
  CHECK(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, region, 0) == MAP_FAILED);
  void* p = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, region, 0);
  REQUIRE(p != MAP_FAILED);
  CHECK(::mprotect(p, 4096, PROT_READ | PROT_WRITE) != 0);
  ::munmap(p, 4096);
  CHECK(::pwrite(region, "x", 1, 0) < 0);
  CHECK(::ftruncate(region, 0) != 0);
  CHECK(::fallocate(region, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0);
  // By /proc, as whom the file is not: what its mode says.
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresgid(kNobody, kNobody, kNobody) != 0 || ::setresuid(kNobody, kNobody, kNobody) != 0) ::_exit(2);
    ::_exit(::open(("/proc/self/fd/" + std::to_string(region)).c_str(), O_RDWR) < 0 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));

  const Reply file = raw.ask(Op::kOpen, "/f", O_RDONLY);
  REQUIRE(file.err == 0);
  for (const uint64_t flags : {O_RDWR, O_WRONLY, O_RDONLY | O_TRUNC, O_RDWR | O_CREAT, O_RDONLY | O_APPEND})
    CHECK(raw.ask(Op::kOpen, "/f", flags).err == EROFS);
  Request r{};
  r.version = kVersion;
  r.op = static_cast<uint16_t>(Op::kReopen);
  r.a0 = ino;
  r.a1 = generation;
  r.a2 = O_RDWR;
  CHECK(raw.ask(0, r).err == EROFS);
  // Every request there is, by handle and by path, but what is allowed to it.
  unsigned refused = 0;
  for (uint16_t op = 0; op < 64; ++op) {
    if (op == static_cast<uint16_t>(Op::kClose)) continue;
    for (const char* path : {"", "/f", "/new"}) {
      Request q{};
      q.version = kVersion;
      q.op = op;
      q.handle = file.handle;
      q.path1_len = static_cast<uint16_t>(std::strlen(path));
      std::memcpy(raw.ring->bounce(0), path, q.path1_len);
      q.a1 = 4096;
      q.a3 = PROT_WRITE;
      refused += raw.ask(0, q).err == EROFS;
    }
  }
  CHECK(refused > 60);
  r = {};
  r.version = kVersion;
  r.handle = file.handle;
  r.op = static_cast<uint16_t>(Op::kMap);
  r.a0 = 0x200000000000;
  r.a2 = 2097152;
  r.a3 = PROT_READ | PROT_WRITE;
  CHECK(raw.ask(0, r).err == EACCES);
  r.a3 = PROT_READ;
  CHECK(raw.ask(0, r).err == 0);
  r.op = static_cast<uint16_t>(Op::kProtect);
  r.a1 = PROT_READ | PROT_WRITE;
  CHECK(raw.ask(0, r).err == EACCES);
  // Out of turn, and as a client of a manager that died, which none did.
  ControlMessage answer;
  const auto error_of_answer = [&] {
    if (recv_control(raw.socket.get(), &answer).status != RecvStatus::kOk) return -1;
    const auto e = answer.as<ErrorReply>(Control::kError);
    return e ? e->err : 0;
  };
  REQUIRE(send_message(raw.socket.get(), Control::kHandOver, 7, ControlHeader{}) == 0);
  CHECK(error_of_answer() == EPERM);
  UniqueFd again = raw_socket(m.path(), kReadOnlySocketName);
  HelloRequest hello{};
  hello.flags = kHelloReattach;
  REQUIRE(send_message(again.get(), Control::kHello, 1, hello) == 0);
  REQUIRE(recv_control(again.get(), &answer).status == RecvStatus::kOk);
  REQUIRE(answer.fd_count == kWelcomeFds);
  CHECK((::fcntl(answer.fds[1].get(), F_GETFL) & O_ACCMODE) == O_RDONLY);
  const int uffd[] = {raw.uffd.get()};
  REQUIRE(send_message(again.get(), Control::kUffd, 2, ControlHeader{}, uffd) == 0);
  REQUIRE(recv_control(again.get(), &answer).status == RecvStatus::kOk);
  REQUIRE(send_message(again.get(), Control::kReattachFile, 3, ReattachFile{{}, ino, generation, 5, O_RDWR, 0, 0}) == 0);
  REQUIRE(recv_control(again.get(), &answer).status == RecvStatus::kOk);
  REQUIRE(answer.as<ErrorReply>(Control::kError));
  CHECK(answer.as<ErrorReply>(Control::kError)->err == EROFS);
  REQUIRE(send_message(again.get(), Control::kReattachMap, 4,
                       ReattachMap{{}, ino, generation, 0, 0x300000000000, 0, 4096, PROT_READ | PROT_WRITE, 3, 0}) == 0);
  REQUIRE(recv_control(again.get(), &answer).status == RecvStatus::kOk);
  REQUIRE(answer.as<ErrorReply>(Control::kError));
  CHECK(answer.as<ErrorReply>(Control::kError)->err == EACCES);
  // A writer's fork is not to be had by a reader.
  RawClient writer(m.path());
  hello = {};
  hello.fork_token = writer.ask(Op::kForkPrepare).v0;
  UniqueFd thief = raw_socket(m.path(), kReadOnlySocketName);
  REQUIRE(send_message(thief.get(), Control::kHello, 1, hello) == 0);
  REQUIRE(recv_control(thief.get(), &answer).status == RecvStatus::kOk);
  REQUIRE(answer.as<ErrorReply>(Control::kError));
  CHECK(answer.as<ErrorReply>(Control::kError)->err == ESTALE);
  CHECK(everything() == before);
  // `pmfs clients` says who is what.
  const Reply list = writer.ask(Op::kClients);
  REQUIRE(list.err == 0);
  unsigned readers = 0;
  for (uint64_t i = 0; i < list.v0; ++i) {
    WireClient c{};
    std::memcpy(&c, writer.ring->bounce(0) + i * sizeof c, sizeof c);
    if (c.id == raw.welcome.client_id) {
      CHECK(c.state == (kClientReady | kClientReadOnly));
      CHECK(c.mappings == 1);
    }
    readers += (c.state & kClientReadOnly) != 0;
  }
  CHECK(readers >= 2);  // and the thief, if its end has not been seen yet
}

// Its sentinel is its own to map writable; a store there is no store to the file, and takes no block.
TEST_CASE("read-only: a store to a hole's zeros is SIGBUS, whatever the page is protected by", "[read_only][hostile]") {
  Pair p;
  p.w->ok(std::string("punch f 0 ") + kBytes);
  CHECK(p.r->cmd("load m 4096") == "0");
  p.r->ok("rawprotect m 4096 4096 rw");
  CHECK(p.r->cmd("store m 4096 9") == "sigbus");
  p.r->ok("rawprotect m 65536 4096 rw");
  CHECK(p.r->cmd("store m 65536 9") == "sigbus");
  CHECK(p.w->cmd("load m 4096") == "0");
  CHECK(p.m.volume().stat("/f").blocks == 0);
  p.w->ok("store m 8192 3");
  CHECK(p.r->cmd("load m 8192") == "3");
  p.m.check_clean();
}
