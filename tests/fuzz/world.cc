#include "tests/fuzz/world.h"

#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>

#include "pmfs/base/error.h"

namespace pmfs::fuzz {

namespace {
constexpr uint64_t kBlocks = kMinBlocks;
constexpr size_t kHonestBytes = 64 * 1024;
constexpr uint64_t kThoroughEvery = 512;  // inputs
constexpr char kHonestName[] = "honest";

std::string made(const std::string& dir) {
  format_volume(dir, {kBlocks, true, false});
  return dir;
}
}  // namespace

void finding(const char* what) {
  std::fprintf(stderr, "FINDING: %s\n", what);
  std::abort();
}

World::World(const std::string& dir, server::Sabotage sabotage)
    : volume_(made(dir), [] {
        VolumeOptions o;
        o.trace = true;
        o.free_in_settle = true;
        o.probe = false;
        return o;
      }()),
      faults_(volume_),
      pagers_(faults_, 1),
      dispatcher_(volume_, faults_, host_) {
  host_.sabotage = sabotage;
  host_.sessions = [] { return std::vector<std::shared_ptr<server::Session>>(); };
  host_.shutdown = [] {};
  host_.keep_fork = [this](server::ForkImage image) {
    if (forks_.size() >= 4) fail(EAGAIN, "enough forks");
    forks_[++tokens_] = std::make_shared<server::ForkImage>(std::move(image));
    return tokens_;
  };
  host_.drop_fork = [this](uint64_t token) { forks_.erase(token); };
  // Its number is none that a fuzzer thinks of.
  std::vector<InodeRef> others;
  for (int i = 0; i < 3000; ++i)
    others.emplace_back(volume_, volume_.open("/x" + std::to_string(i), O_RDWR | O_CREAT, 0600, {0, 0}));
  honest_ = InodeRef(volume_, volume_.open(std::string("/") + kHonestName, O_RDWR | O_CREAT, 0600, {0, 0}));
  honest_ino_ = to_u64(honest_->ino);
  honest_data_.resize(kHonestBytes);
  for (size_t i = 0; i < kHonestBytes; ++i) honest_data_[i] = std::byte(i * 7 + i / kBlockSize);
  volume_.write(*honest_, honest_data_, 0);
  others.clear();
  clear("/");
  fds_ = open_fds();
}

std::shared_ptr<server::ForkImage> World::take_fork(uint64_t token) {
  auto it = forks_.find(token);
  if (it == forks_.end()) fail(ESTALE, "no such fork");
  auto image = std::move(it->second);
  forks_.erase(it);
  return image;
}

size_t World::open_fds() const {
  size_t n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

void World::clear(const std::string& dir) {
  for (;;) {
    const auto names = volume_.list(dir, 0, 256);
    size_t removed = 0;
    for (const auto& e : names) {
      if (dir == "/" && e.name == kHonestName) continue;
      const std::string path = (dir == "/" ? dir : dir + "/") + e.name;
      if ((e.mode & S_IFMT) == S_IFDIR) {
        clear(path);
        volume_.rmdir(path);
      } else {
        volume_.unlink(path);
      }
      ++removed;
    }
    if (removed == 0) return;
  }
}

void World::clear_root() {
  const Ino root = volume_.lookup("/");
  meta::AttrChange a;
  a.mode = 0755;
  a.uid = a.gid = 0;
  volume_.store().set_attr(root, a, {0, 0});
  for (const std::string& name : volume_.store().list_xattrs(root, {0, 0})) volume_.store().remove_xattr(root, name, {0, 0});
  volume_.store().set_project(root, {}, {0, 0});
}

void World::look() {
  forks_.clear();
  for (const meta::Quota& q : volume_.store().quotas()) volume_.set_quota(q.kind, q.id, 0, 0);
  clear("/");
  clear_root();
  std::byte data[kHonestBytes + 1];
  if (volume_.read(*honest_, data, 0) != kHonestBytes) finding("an honest file has another size");
  if (std::memcmp(data, honest_data_.data(), kHonestBytes) != 0) finding("an honest file has other bytes");
  const meta::Space s = volume_.space();
  if (s.blocks_used != kHonestBytes / kBlockSize) finding("blocks are used that no file has");
  if (s.blocks_reserved != 0 || s.blocks_deferred != 0) finding("blocks are held for nobody");
  if (s.inodes_used != 2) finding("there are inodes without a name");
  if (++inputs_ % kThoroughEvery != 0) return;
  for (const std::string& f : volume_.store().check()) finding(f.c_str());
  if (open_fds() > fds_ + 2) finding("descriptors are left open");  // a lane's set may have come
}

}  // namespace pmfs::fuzz
