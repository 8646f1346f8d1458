// The wire between a client and the manager: control messages on a SOCK_SEQPACKET socket (set-up and fds),
// requests and VMA commands in a shared-memory ring (ring.h). docs/protocol.md tells the whole story.
//
// All integers are host order (one machine). Every struct is fixed-size and has no padding. The manager copies
// a message out of shared memory once, then validates every field of the copy.
#pragma once

#include <cstdint>

namespace pmfs::proto {

inline constexpr uint32_t kMagic = 0x53464d50;  // "PMFS"
inline constexpr uint16_t kVersion = 2;
inline constexpr char kSocketName[] = "pmfs.sock";  // in the volume's directory
inline constexpr char kReadOnlySocketName[] = "pmfs-ro.sock";  // there too, if asked for: who comes by it can store nowhere
inline constexpr uint32_t kMaxPath = 4096;          // bytes, without NUL

// --- control messages (socket). One datagram each; fds ride along as SCM_RIGHTS.
enum class Control : uint16_t {
  kHello = 1,     // c->m  HelloRequest (token != 0: I am the fork of that client)
  kWelcome = 2,   // m->c  HelloReply; fds: userfaultfd device (or a fresh userfaultfd), region, ring memfd,
                  //       doorbell eventfd (client -> manager), sigbus memfd (empty; see docs/protocol.md), life lock
  kUffd = 3,      // c->m  empty; fd: the client's userfaultfd, API handshake done. m->c kOk
  kSentinel = 4,  // c->m  SentinelRequest{handle}. m->c kSentinelFd + fd: the sentinel memfd of that file
  kSentinelFd = 5,
  kOk = 6,
  kError = 7,     // m->c  ErrorReply
  // A client whose manager has died hands over what it has to the next one (kHelloReattach), after kUffd:
  kReattachFile = 8,   // c->m  ReattachFile. m->c kOk, or kSentinelFd + fd if asked for; ESTALE: the file is gone
  kReattachMap = 9,    // c->m  ReattachMap. m->c kSentinelFd + fd; ESTALE
  kReattachDone = 10,  // c->m  header only. m->c kOk: requests are served, VMA commands come
  kHandOver = 11,      // c->m  header only, instead of a hello; root or the manager's user. m->c kOk: it drains and ends
};
inline constexpr size_t kWelcomeFds = 6;
inline constexpr uint32_t kRegionHugetlb = 4;  // of HelloReply::region_kind

struct ControlHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t type;    // Control
  uint32_t bytes;   // of the whole message
  uint32_t seq;     // echoed in the reply
};
static_assert(sizeof(ControlHeader) == 16);

struct HelloRequest {
  ControlHeader h;
  uint64_t fork_token;  // 0, or from Op::kForkPrepare in the parent
  uint64_t flags;       // kHelloReattach: with 1 fd, the ring of the session with the former manager; without, a forked
                        // child of such a client, with a ring to come
  uint64_t reserved[2];
};
inline constexpr uint64_t kHelloReattach = 1;

struct HelloReply {
  ControlHeader h;
  uint8_t volume_uuid[16];
  uint64_t region_blocks;
  uint64_t client_id;
  uint32_t region_kind;
  uint32_t block_size;     // bytes of a unit: what is allocated and freed as a whole (st_blksize). Where acked is 1, or region_kind kRegionHugetlb, addresses, offsets
                           // and lengths of kMap and kSplit are multiples of it, else of 4096
  uint32_t slots;          // request slots in the ring
  uint32_t agent_slots;    // command slots
  uint64_t bounce_bytes;   // of one slot's bounce buffer
  uint64_t ring_bytes;     // of the ring memfd
  uint64_t uffd_features;  // to ask for in UFFDIO_API
  uint32_t uffd_is_device; // 1: the first fd is /dev/userfaultfd (USERFAULTFD_IOC_NEW), 0: a userfaultfd
  uint32_t epoch;          // of the mount: tells managers apart; also in each Reply
  uint32_t acked;          // 1, of read-only clients always: VMAs of the region are not registered; sentinels are, for missing, minor
                           // and write-protect faults
  uint32_t map_sync;       // 1: the region is mapped with MAP_SYNC
};
// Files are named by ino and generation, since the path may be another file's by now, or nobody's.
struct ReattachFile {
  ControlHeader h;
  uint64_t ino, generation;
  uint32_t handle;         // as it was
  uint32_t flags;          // O_ flags it was opened with
  uint32_t want_sentinel;  // 1: the client has the file's sentinel
  uint32_t reserved;
};
struct ReattachMap {
  ControlHeader h;
  uint64_t ino, generation;
  uint64_t id;  // as the former manager called it; 0: it had not answered yet
  uint64_t va, offset, length, prot;  // as in kMap
  int32_t sentinel_fd;
  uint32_t reserved;
};
static_assert(sizeof(ReattachFile) == 48 && sizeof(ReattachMap) == 80);
struct SentinelRequest {
  ControlHeader h;
  uint32_t handle;
  uint32_t reserved;
};
struct ErrorReply {
  ControlHeader h;
  int32_t err;
  uint32_t reserved;
  char message[240];  // NUL-terminated
};

// --- requests (ring)
enum class Op : uint16_t {
  kNop = 0,
  kOpen = 1,        // path1; a0 = O_ flags, a1 = mode -> Reply.handle, attr
  kClose = 2,       // handle
  kStat = 3,        // path1, or handle (path1_len 0); a0 = kNoFollow -> attr
  kMap = 4,         // handle, a0 = va, a1 = offset bytes, a2 = length bytes, a3 = PROT_ bits, a4 = the client's own
                    // fd number of the sentinel (echoed in commands) -> v0 = mapping id, agent_seq
  kUnmap = 5,       // a0 = mapping id, or 0: what is at a1, if there is anything. The mapping is gone for the manager on reply -> agent_seq; then the client munmaps
  kRead = 6,        // handle, a0 = offset, a1 = bytes (<= bounce) -> v0 = bytes read, data in bounce
  kWrite = 7,       // handle, a0 = offset, a1 = bytes, a2 = flags (kWriteAppend) -> v0 = written, v1 = offset used
  kTruncate = 8,    // handle or path1; a0 = size
  kPunch = 9,       // handle or path1; a0 = offset, a1 = length (bytes)
  kZeroRange = 10,  // same; never changes the size
  kPreallocate = 11,  // same; a2 = 1: keep size
  kFsync = 12,      // handle
  kMkdir = 13,      // path1; a1 = mode
  kRmdir = 14,      // path1
  kUnlink = 15,     // path1
  kRename = 16,     // path1 -> path2; a0 = RENAME_NOREPLACE or RENAME_EXCHANGE
  kReaddir = 17,    // path1; a0 = cookie -> v0 = entries packed in bounce (PackedDirent)
  kExtents = 18,    // handle or path1; a0 = first pgoff, -> v0 = count of WireExtent in bounce, v1 = next pgoff or ~0
  kStatfs = 19,     // -> WireStatfs in bounce
  kClients = 20,    // -> v0 = count of WireClient in bounce
  kBlocks = 21,     // root only. a0 = count of pfns (u64) in bounce -> as many WireBlock in bounce
  kCounters = 22,   // -> WireCounters in bounce
  kTrace = 23,      // root only. a0 = pfn -> v0 = bytes of text in bounce: the last operations on that block
  kForkPrepare = 24,  // -> v0 = token for the child's Hello
  kForkCancel = 25,   // a0 = token
  kMapInfo = 26,      // a0 = index -> after a fork Hello: the cloned mappings, WireMapping in bounce; ENOENT past the last
  kShutdown = 27,     // root or the manager's user: stop cleanly
  kSetAttr = 28,      // path1 or handle; a0 = kAttr bits and kNoFollow, a1 = mode, a2 = uid | gid << 32, a3 = atime,
                      // a4 = mtime, in ns or kTimeNow
  kLink = 29,         // path1 -> path2, the new name; a0 = kFollow
  kSymlink = 30,      // path1: the link, path2: what it says
  kReadlink = 31,     // path1 -> v0 = bytes in bounce
  kMknod = 32,        // path1; a1 = mode with the file type: EPERM for any but a regular file
  // Extended attributes: path1 or handle; a0 = bytes of the name, behind the path; a3 = kNoFollow.
  kSetXattr = 33,     // a1 = bytes of the value, behind the name; a2 = XATTR_CREATE, XATTR_REPLACE
  kGetXattr = 34,     // -> v0 = bytes of the value in bounce
  kListXattr = 35,    // a0 = 0 -> v0 = bytes in bounce, names with a NUL each
  kRemoveXattr = 36,
  kSeek = 37,         // handle; a0 = offset, a1 = SEEK_DATA or SEEK_HOLE -> v0 = offset
  kCopyRange = 38,    // handle: from; a0 = offset there, a1 = handle: to, a2 = offset there, a3 = bytes -> v0 = copied,
                      // short at the end of the file and after 256 MiB of data
  kCollapse = 39,     // handle or path1; a0 = offset, a1 = length
  kInsert = 40,       // same
  kSetQuota = 41,     // root or the manager's user. a0 = 1: user, 2: project, a1 = id, a2 = blocks, a3 = inodes; 0: none
  kQuotas = 42,       // a0 = index of the first -> v0 = count of WireQuota in bounce, v1 = 1: there are more
  kProject = 43,      // path1 or handle -> v0 = project, v1 = 1: handed on to what is made in it
  kClone = 45,        // handle: from; a0 = offset there, a1 = handle: to, a2 = offset there, a3 = bytes, 0: to the end
  kSetProject = 44,   // path1 or handle; a0 = project, a1 = 1: handed on
  kReopen = 46,       // a0 = ino, a1 = generation, a2 = O_ flags -> handle: of a file opened just when its manager died.
                      // ESTALE
  kGrow = 47,         // root or the manager's user. a0 = bytes of the region, more than it has
  // Of mappings, which are named by addresses. ENOENT: none is there. Each may be asked twice.
  kSplit = 48,        // a0 = address: the mapping that has it becomes two there -> v0 = id of the right one, v1 = of the
                      // left one; no change if it is one's first
  kProtect = 49,      // a0 = a mapping's first address, a1 = PROT_ bits of its VMAs from now on -> agent_seq
  kSync = 50,         // a0 = address, a1 = bytes, in one mapping: fsync of that part of the file
  kFiles = 51,        // a0 = how many at most, kMostFiles -> v0 = count of WireFile in bounce: the busiest in use, busiest first
};
inline constexpr uint64_t kWriteAppend = 1;
inline constexpr uint64_t kMostFiles = 1024;  // of kFiles
inline constexpr uint64_t kNoFollow = 1;  // a symbolic link that is the last component is meant itself
inline constexpr uint64_t kFollow = 1;    // kLink: not meant itself
inline constexpr uint64_t kAttrMode = 2, kAttrUid = 4, kAttrGid = 8, kAttrAtime = 16, kAttrMtime = 32;
inline constexpr int64_t kTimeNow = INT64_MIN + 1;

inline constexpr uint32_t kFlagNoWait = 1;  // EAGAIN instead of waiting for another operation

struct Request {
  uint16_t op;
  uint16_t version;
  uint32_t flags;
  uint32_t handle;
  uint16_t path1_len;  // bytes at the start of the bounce buffer
  uint16_t path2_len;  // bytes right behind path1
  uint64_t a0, a1, a2, a3, a4;
};
static_assert(sizeof(Request) == 56);

struct WireAttr {
  uint64_t ino, size, blocks, generation;
  int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
  uint32_t mode, uid, gid, nlink;
};
static_assert(sizeof(WireAttr) == 80);

struct Reply {
  int32_t err;       // 0 or an errno; then message is in the bounce buffer: message_len bytes
  uint32_t handle;
  uint64_t v0, v1;
  uint64_t agent_seq;  // wait until the own agent has executed the command of this number (0: none)
  uint32_t message_len;
  uint32_t epoch;      // of the manager that answered: agent_seq counts its commands
  WireAttr attr;
};
static_assert(sizeof(Reply) == 120);
// Handles and mapping ids say which manager gave them, so that a former one's are never taken for this one's.
inline constexpr unsigned kHandleEpochShift = 24, kMappingEpochShift = 32;  // handle: the low 8 bits of the epoch

struct PackedDirent {  // followed by name_len bytes, padded to 8
  uint64_t ino, cookie;
  uint32_t mode;
  uint32_t name_len;
};
struct WireExtent {
  uint64_t pgoff, pfn, count;
  uint32_t unwritten, reserved;
};
struct WireStatfs {
  uint64_t block_size, blocks_total, blocks_used, blocks_free, blocks_reserved, blocks_deferred, blocks_zero;
  uint64_t inodes_used, meta_bytes_total, meta_bytes_used;
  uint64_t mount_epoch, clients;
  uint8_t uuid[16];
  char region_kind[16], granularity[64], exclusion[32];
  uint32_t sparse, pid;
  uint64_t unit_bytes;
};
struct WireClient {
  uint64_t id, mappings, mapped_bytes, handles, faults, installs, agent_queue;
  uint32_t pid, uid;
  uint32_t state;            // kClient bits
  uint32_t revokes;          // acked: commands to let blocks go that it has not answered
  uint64_t revoke_age_ns;    // of the oldest of them
};
inline constexpr uint32_t kClientReady = 1, kClientReadOnly = 2;  // ready: its userfaultfd is here
struct WireFile {  // what happened to a file since it is in the manager's memory
  uint64_t ino, size;  // bytes
  uint64_t faults, invalidates, zapped_pages, waits;  // waits: for another operation on a page
};
struct WireBlock {  // who a region block belongs to now, for the PTE oracle
  uint64_t pfn;
  uint32_t state;       // 0 free, 1 reserved (placement), 2 used, 3 deferred, 4 volatile zero block
  uint32_t reserved;
  uint64_t ino, pgoff;  // for states 2 and 4
  uint64_t generation;  // changes each time the block is freed or given to somebody
};
struct WireCounters {
  uint64_t faults, faults_minor, faults_missing, faults_wp, installs_pages, retries, stale_events, sigbus;
  uint64_t invalidates, zaps, zapped_pages, agent_commands, agent_acks, requests, protocol_errors;
  uint64_t canary_errors, zero_blocks, zero_commits, clients, client_deaths;
  uint64_t fault_p50_ns, fault_p99_ns, fault_p999_ns, invalidate_p50_ns, invalidate_p99_ns;
};
struct WireQuota {
  uint32_t kind, id;
  uint64_t blocks, inodes, block_limit, inode_limit;
};
struct WireMapping {
  uint64_t id, va, offset, length, prot;
  uint32_t handle, reserved;
};

// --- VMA commands to the client's agent thread (ring), executed in order
enum class AgentOp : uint32_t {
  kNone = 0,
  kMapRegion = 1,    // region file at region_offset -> [va, va+length), registered MISSING|MINOR|WP
  kMapSentinel = 2,  // sentinel memfd (fd) at region_offset -> same place, registered MISSING
  kMapSigbus = 3,    // the session's sigbus memfd at region_offset, registered MISSING
  kMapDirect = 4,    // region file at region_offset -> same place, not registered: the kernel resolves its faults (acked)
};
struct AgentCommand {
  uint64_t seq;  // from 1, consecutive
  uint32_t op;
  uint32_t prot;
  uint64_t va, length, region_offset;  // bytes
  int32_t fd;      // the client's own number of the sentinel, as given in kMap
  int32_t result;  // written by the agent before it advances agent_done: 0 or an errno
};
static_assert(sizeof(AgentCommand) == 48);

}  // namespace pmfs::proto
