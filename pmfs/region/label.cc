#include "pmfs/region/label.h"

#include <cerrno>
#include <cstring>

#include <boost/crc.hpp>
#include <sys/mman.h>

#include "pmfs/base/error.h"
#include "pmfs/region/pmem2.h"

namespace pmfs {

namespace {

class MappedBlock {
 public:
  MappedBlock(int fd, const std::string& path, Pfn at, Unit align) : in_unit_((at - align.down(at)) << kBlockShift), bytes_(align.bytes()) {
    p_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, static_cast<off_t>(align.down(at).bytes()));
    if (p_ == MAP_FAILED) fail(errno, "region {}: its label can't be mapped: {}", path, std::strerror(errno));
  }
  ~MappedBlock() { ::munmap(p_, bytes_); }
  MappedBlock(const MappedBlock&) = delete;
  MappedBlock& operator=(const MappedBlock&) = delete;
  void* get() const { return static_cast<std::byte*>(p_) + in_unit_; }

 private:
  const uint64_t in_unit_, bytes_;
  void* p_ = nullptr;
};

uint32_t checksum_of(RegionLabel l) {
  l.checksum = 0;
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(&l, sizeof l);
  return crc.checksum();
}

}  // namespace

std::optional<RegionLabel> read_label(int fd, const std::string& path, uint64_t at, Unit align) {
  const MappedBlock block(fd, path, Pfn(at), align);
  RegionLabel l;
  std::memcpy(&l, block.get(), sizeof l);
  if (l.magic != RegionLabel::kMagic || l.version != RegionLabel::kVersion || l.checksum != checksum_of(l)) return std::nullopt;
  return l;
}

void write_label(int fd, const std::string& path, uint64_t at, Unit align, const VolumeUuid& uuid) {
  const Pmem2 pmem2(fd, path, align.bytes(), Pmem2::Need::kWhatItSays);
  const MappedBlock block(fd, path, Pfn(at), align);
  RegionLabel l{RegionLabel::kMagic, RegionLabel::kVersion, 0, at, uuid};
  l.checksum = checksum_of(l);
  pmem2.memcpy_nodrain(block.get(), &l, sizeof l);
  pmem2.drain();
}

}  // namespace pmfs
