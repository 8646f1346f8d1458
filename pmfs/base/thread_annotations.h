// Clang's thread-safety attributes (checked with -Wthread-safety), empty for other compilers.
#pragma once

#if defined(__clang__)
#define PMFS_TSA(x) __attribute__((x))
#else
#define PMFS_TSA(x)
#endif

#define CAPABILITY(x) PMFS_TSA(capability(x))
#define SCOPED_CAPABILITY PMFS_TSA(scoped_lockable)
#define GUARDED_BY(x) PMFS_TSA(guarded_by(x))
#define PT_GUARDED_BY(x) PMFS_TSA(pt_guarded_by(x))
#define REQUIRES(...) PMFS_TSA(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...) PMFS_TSA(requires_shared_capability(__VA_ARGS__))
#define ACQUIRE(...) PMFS_TSA(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...) PMFS_TSA(acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...) PMFS_TSA(release_capability(__VA_ARGS__))
#define RELEASE_SHARED(...) PMFS_TSA(release_shared_capability(__VA_ARGS__))
#define RELEASE_GENERIC(...) PMFS_TSA(release_generic_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) PMFS_TSA(try_acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE_SHARED(...) PMFS_TSA(try_acquire_shared_capability(__VA_ARGS__))
#define EXCLUDES(...) PMFS_TSA(locks_excluded(__VA_ARGS__))
#define ASSERT_CAPABILITY(x) PMFS_TSA(assert_capability(x))
#define RETURN_CAPABILITY(x) PMFS_TSA(lock_returned(x))
#define NO_THREAD_SAFETY_ANALYSIS PMFS_TSA(no_thread_safety_analysis)
