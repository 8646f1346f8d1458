// pmfs: C++20 client API. Link with libpmfs.
//
//   pmfs::Volume v("/dev/shm/vol");
//   pmfs::File f = v.open("/data", O_RDWR | O_CREAT, 0644);
//   f.truncate(1 << 20);
//   pmfs::Mapping m = f.map(0, 1 << 20);
//   m.bytes()[0] = std::byte{42};           // a plain store reaches the block
//   pmfs::persist(m.data(), 64);            // CLWB + SFENCE, no system call
//
// Errors are thrown as pmfs::Error (an errno and a sentence). All classes are safe to use from several threads.
// After fork() mappings and files go on working in the child (which is a client of its own); exec detaches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>

#include "pmfs/error.hpp"

#pragma GCC visibility push(default)
namespace pmfs {

struct Stat {
  uint64_t ino, size, blocks, generation;  // size in bytes; blocks of 4 KiB
  int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
  uint32_t mode, uid, gid, nlink;
  uint32_t blksize;  // bytes: what is allocated and freed as a whole
};
// What to change; the rest stays.
struct AttrChange {
  static constexpr int64_t kNow = INT64_MIN + 1;  // as a time: the manager's clock
  std::optional<unsigned> mode, uid, gid;         // mode: permission bits
  std::optional<int64_t> atime_ns, mtime_ns;
};
enum class Follow : bool { kNo, kYes };  // a symbolic link that is the last component of the path
struct ExtentInfo {  // in 4 KiB pages of the file and blocks of the region
  uint64_t pgoff, pfn, count;
  bool unwritten;
};
struct Dirent {
  std::string name;
  uint64_t ino;
  uint32_t mode;
};
struct StatFs {
  uint64_t block_size, blocks_total, blocks_used, blocks_free, blocks_reserved, blocks_deferred, blocks_zero;
  uint64_t inodes_used, meta_bytes_total, meta_bytes_used, mount_epoch, clients;
  std::string uuid, region_kind, granularity, exclusion;
  bool sparse;
  int manager_pid;
  uint64_t unit_bytes;  // what is allocated and freed as a whole: whole blocks
};
struct ClientInfo {
  uint64_t id, mappings, mapped_bytes, handles, faults, installs, agent_queue;
  uint32_t pid, uid;
  bool has_uffd, read_only;
  uint32_t revokes;        // acked mode: how often it was asked to let go of blocks and has not answered
  uint64_t revoke_age_ns;  // since the oldest of those
};

enum class QuotaKind : uint32_t { kUser = 1, kProject = 2 };
struct QuotaInfo {
  QuotaKind kind;
  uint32_t id;
  uint64_t blocks, inodes, block_limit, inode_limit;  // blocks of 4 KiB; limit 0: none
};
struct Project {
  uint32_t id = 0;       // 0: none
  bool inherit = false;  // of a directory: what is made in it is of the project
};

enum class Access : bool { kReadWrite, kReadOnly };

class Session;  // connection to one manager, shared by the objects below

// A range of a file mapped into this process. Unmapped on destruction. Move-only.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&&) noexcept;
  Mapping& operator=(Mapping&&) noexcept;
  ~Mapping();
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }  // bytes
  std::span<std::byte> bytes() const { return {data_, size_}; }
  void unmap();  // what pmfs_munmap and pmfs_mremap have left of it
  std::byte* release();  // gives up ownership: stays mapped until pmfs_munmap() or exit

 private:
  friend class File;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::shared_ptr<Session> session_;
};

// An open file. Closed on destruction; mappings outlive it. Move-only.
// no_wait forms throw Error(EAGAIN) instead of waiting for another operation on the range.
class File {
 public:
  File() = default;
  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();
  explicit operator bool() const { return session_ != nullptr; }

  // offset: a multiple of 4096; length > 0 bytes; may reach beyond EOF (SIGBUS there until the file grows).
  Mapping map(uint64_t offset, size_t length, int prot = PROT_READ | PROT_WRITE);
  // The same, near or at an address. flags: 0: if there is room; MAP_FIXED_NOREPLACE: there, or EEXIST; MAP_FIXED: there,
  // instead of what is there, which nobody may touch meanwhile (SIGSEGV).
  Mapping map_at(void* addr, int flags, uint64_t offset, size_t length, int prot = PROT_READ | PROT_WRITE);
  size_t read(std::span<std::byte> out, uint64_t offset, bool no_wait = false);  // short only at EOF
  size_t write(std::span<const std::byte> in, uint64_t offset, bool no_wait = false);
  uint64_t append(std::span<const std::byte> in);  // returns the offset it was written at; atomic up to 256 KiB
  void truncate(uint64_t size, bool no_wait = false);
  void punch(uint64_t offset, uint64_t length, bool no_wait = false);
  // The range within the file reads as zero and keeps its blocks; the size stays.
  void zero_range(uint64_t offset, uint64_t length, bool no_wait = false);
  void preallocate(uint64_t offset, uint64_t length, bool keep_size = false);
  // Whole pages leave the file, and what is behind moves up to them; or zeros come in and it moves away. EINVAL: not
  // multiples of 4096, or at the end of the file; EFBIG; ENOSPC: what is mapped moves to other blocks.
  void collapse(uint64_t offset, uint64_t length, bool no_wait = false);
  void insert(uint64_t offset, uint64_t length, bool no_wait = false);
  uint64_t seek_data(uint64_t offset);  // the next byte that is not in a hole; ENXIO: none
  uint64_t seek_hole(uint64_t offset);  // the end of the file counts; ENXIO: offset is behind it
  // Shares this file's blocks instead of copying them (reflink); length 0: to the end. The first store, or touch through
  // a mapping, gives either file a copy of its own. EINVAL: not whole blocks; overlap.
  void clone_to(uint64_t offset, File& to, uint64_t to_offset, uint64_t length = 0);
  // Copies within the manager; holes stay holes. Returns the bytes copied, short only at this file's end. EINVAL:
  // ranges of one file that overlap.
  uint64_t copy_to(uint64_t offset, File& to, uint64_t to_offset, uint64_t length);
  void fsync();
  Stat stat();
  void set_attr(const AttrChange& change);  // EPERM
  // Extended attributes, as Volume's by path.
  void set_xattr(std::string_view name, std::span<const std::byte> value, int flags = 0);
  std::vector<std::byte> get_xattr(std::string_view name);
  std::vector<std::string> list_xattrs();
  void remove_xattr(std::string_view name);
  std::vector<ExtentInfo> extents();
  void close();
  uint32_t handle() const { return handle_; }

 private:
  friend class Volume;
  std::shared_ptr<Session> session_;
  uint32_t handle_ = 0;
  int flags_ = 0;
};

class Volume {
 public:
  // Connects to the manager that serves the volume directory. ENOENT, ECONNREFUSED (no manager), EACCES, EPROTO.
  explicit Volume(const std::string& path);
  // kReadOnly: by the manager's read-only socket (pmfs serve --read-only-socket-mode; ENOENT, ECONNREFUSED: it has none). Nothing
  // that this process does can store to the volume: what would change it is EROFS, a mapping for stores EACCES. Such a client
  // answers when blocks that it has mapped are taken away: while it is stopped they are not used again (--fence-after).
  Volume(const std::string& path, Access access);
  // Paths are absolute within the volume, and so is an absolute target of a symbolic link; ELOOP after 40 links.
  File open(std::string_view path, int flags, unsigned mode = 0644);
  // By number, as from Stat. flags: O_RDONLY or O_RDWR. ESTALE: there is no such file any more.
  File open_inode(uint64_t ino, uint64_t generation, int flags);
  Stat stat(std::string_view path, Follow last = Follow::kYes);
  void mkdir(std::string_view path, unsigned mode = 0755);
  void mknod(std::string_view path, unsigned mode);  // EPERM: a special file; there are none in a volume
  void rmdir(std::string_view path);
  void unlink(std::string_view path);
  // Atomic. flags: RENAME_NOREPLACE (EEXIST), or RENAME_EXCHANGE (both names stay and change places).
  void rename(std::string_view from, std::string_view to, unsigned flags = 0);
  void link(std::string_view from, std::string_view to, Follow last = Follow::kNo);  // EPERM: a directory; EMLINK
  void symlink(std::string_view target, std::string_view path);
  std::string readlink(std::string_view path);
  void set_attr(std::string_view path, const AttrChange& change, Follow last = Follow::kYes);  // EPERM
  // Extended attributes: user.*, and for root security.* and trusted.*. flags: XATTR_CREATE, XATTR_REPLACE. ENODATA,
  // EEXIST, E2BIG, ERANGE, ENOSPC, EOPNOTSUPP (another prefix).
  void set_xattr(std::string_view path, std::string_view name, std::span<const std::byte> value, int flags = 0,
                 Follow last = Follow::kYes);
  std::vector<std::byte> get_xattr(std::string_view path, std::string_view name, Follow last = Follow::kYes);
  std::vector<std::string> list_xattrs(std::string_view path, Follow last = Follow::kYes);
  void remove_xattr(std::string_view path, std::string_view name, Follow last = Follow::kYes);
  std::vector<Dirent> list(std::string_view path);
  void truncate(std::string_view path, uint64_t size);
  void punch(std::string_view path, uint64_t offset, uint64_t length);
  std::vector<ExtentInfo> extents(std::string_view path);
  StatFs statfs();
  // What would exceed a limit is EDQUOT (through a mapping SIGBUS). EACCES or EPERM: only root and the manager's user
  // set quotas, only root projects.
  void set_quota(QuotaKind kind, uint32_t id, uint64_t block_limit, uint64_t inode_limit);  // both 0: no quota
  std::vector<QuotaInfo> quotas();
  // Makes the volume so large, while it is in use; only root and the manager's user. EINVAL: not larger than it is, or not
  // a multiple of 4096; ENOSPC: the tmpfs has no room; EFBIG: more than 16 times (and 64 GiB) without a stop.
  void grow(uint64_t bytes);
  void set_project(std::string_view path, const Project& p);
  Project project(std::string_view path);
  std::vector<ClientInfo> clients();
  Session& session() const { return *session_; }

 private:
  std::shared_ptr<Session> session_;
};

// Makes stores to [p, p+bytes) durable: CLWB + SFENCE (or what libpmem2 chooses). No system call.
void persist(const void* p, size_t bytes);
void flush(const void* p, size_t bytes);  // without the fence
void drain();                             // the fence

}  // namespace pmfs
#pragma GCC visibility pop
