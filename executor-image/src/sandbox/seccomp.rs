//! The system-call filter: a list of what is refused, with an error that programs cope with.
//!
//! Not a list of what is allowed: that breaks numpy and pandas with each new C library.

use std::collections::BTreeMap;

use rustix::process::Pid;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused whatever the arguments.
const REFUSED: &[i64] = &[
    // Other processes, of which the runner is one.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Interfaces with a history of holes that no program of a calculation needs.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_memfd_secret,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Memory and semaphores that belong to no process. Python's multiprocessing uses files for both.
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    STATMOUNT,
    LISTMOUNT,
    OPEN_TREE_ATTR,
    // The machine.
    libc::SYS_syslog,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    // Everybody's disks; fsync is for one's own files.
    libc::SYS_sync,
    libc::SYS_syncfs,
    KEXEC_FILE_LOAD,
];

// Newer than the libc crate's tables; one number on all architectures.
const STATMOUNT: i64 = 457;
const LISTMOUNT: i64 = 458;
const OPEN_TREE_ATTR: i64 = 467;

#[cfg(target_arch = "x86_64")]
const KEXEC_FILE_LOAD: i64 = 320;
#[cfg(target_arch = "aarch64")]
const KEXEC_FILE_LOAD: i64 = 294;

/// Refused as well, on architectures that have them.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(target_arch = "aarch64")]
const REFUSED_HERE: &[i64] = &[];

/// Memory that no process has to map: without a cgroup nobody would count it.
const UNMAPPED_MEMORY: &[i64] = &[libc::SYS_memfd_create];

/// fcntl(2)'s F_SETOWN, F_SETSIG and F_SETOWN_EX.
const DESCRIPTORS_THAT_SIGNAL: [u32; 3] = [8, 10, 15];

/// ioctl(2)'s FIOSETOWN and SIOCSPGRP, which are F_SETOWN for sockets.
const OWNERS_OF_SOCKETS: [u32; 2] = [0x8901, 0x8902];

/// clone(2)'s flags for new namespaces.
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The filters, in the order in which they go on.
///
/// `writer` is the runner's second thread: a signal to any thread's number reaches its process.
pub fn filters(writer: Pid, refuse_unmapped_memory: bool) -> Result<[BpfProgram; 2], Error> {
    Ok([missing()?, refused(writer, refuse_unmapped_memory)?])
}

/// Calls that answer as on a kernel without them: the C library then falls back on clone, whose flags, unlike
/// clone3's, a filter can see.
fn missing() -> Result<BpfProgram, Error> {
    let rules = Rules::from([(libc::SYS_clone3, Vec::new())]);
    compile(rules, libc::ENOSYS)
}

fn refused(writer: Pid, refuse_unmapped_memory: bool) -> Result<BpfProgram, Error> {
    let mut rules = conditional(writer)?;
    let unmapped = if refuse_unmapped_memory {
        UNMAPPED_MEMORY
    } else {
        &[]
    };
    for &call in REFUSED.iter().chain(REFUSED_HERE).chain(unmapped) {
        rules.insert(call, Vec::new());
    }
    let mut program = compile(rules, libc::EPERM)?;
    if cfg!(target_arch = "x86_64") {
        program.splice(0..0, refuse_x32());
    }
    Ok(program)
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, Error> {
    let action = SeccompAction::Errno(errno.cast_unsigned());
    // Another architecture's call (int 0x80) kills the program: the compiled filter begins with that check.
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, action, ARCH)?.try_into()?)
}

/// x32 has the architecture of x86_64 and other numbers, so that it would walk around the list.
fn refuse_x32() -> [sock_filter; 3] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    let refuse: u32 = SeccompAction::Errno(libc::EPERM.cast_unsigned()).into();
    [
        sock_filter {
            code: LOAD_WORD,
            jt: 0,
            jf: 0,
            k: 0,
        },
        sock_filter {
            code: JUMP_IF_GREATER_OR_EQUAL,
            jt: 0,
            jf: 1,
            k: X32_BIT,
        },
        sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: refuse,
        },
    ]
}

/// Refused by their arguments; the rules of one call are alternatives.
fn conditional(writer: Pid) -> Result<Rules, BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let another = |argument| rule([int(argument, Ne, 0)]);
    let writer = u64::from(writer.as_raw_nonzero().get().unsigned_abs());
    let the_runner = || Ok(vec![rule([int(0, Eq, 1)])?, rule([int(0, Eq, writer)])?]);
    let mut rules = Rules::new();

    // Every family but AF_UNIX: no TCP, UDP, raw, netlink, vsock or ALG, whatever the network allows.
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(
            call,
            vec![rule([int(0, Ne, libc::AF_UNIX.cast_unsigned().into())])?],
        );
    }

    let namespaces = NEW_NAMESPACES.into_iter().map(|flag| {
        let bit = u64::from(flag.cast_unsigned());
        rule([int(0, MaskedEq(bit), bit)])
    });
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);

    // Limits and priorities of another process: these work on the runner though it is not dumpable.
    let changes = SeccompCondition::new(2, SeccompCmpArgLen::Qword, Ne, 0);
    rules.insert(libc::SYS_prlimit64, vec![rule([int(0, Ne, 0), changes])?]);
    for call in [
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setaffinity,
    ] {
        rules.insert(call, vec![another(0)?]);
    }
    // By group or user they would name the runner too.
    rules.insert(libc::SYS_setpriority, vec![another(1)?, another(0)?]);
    rules.insert(libc::SYS_ioprio_set, vec![another(1)?, rule([int(0, Ne, 1)])?]);

    // The kernel swallows what the runner does not handle, but a flood could hide the SIGTERM from outside.
    for call in [
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
    ] {
        rules.insert(call, the_runner()?);
    }

    // Descriptors signal whom they are told to as well, and pending signals of one kind are one: a program that
    // makes them without pause would swallow the SIGTERM from outside.
    let one_of = |argument, values: &[u32]| {
        let each = values
            .iter()
            .map(|&value| rule([int(argument, Eq, value.into())]));
        each.collect::<Result<Vec<_>, _>>()
    };
    rules.insert(libc::SYS_fcntl, one_of(1, &DESCRIPTORS_THAT_SIGNAL)?);
    rules.insert(libc::SYS_ioctl, one_of(1, &OWNERS_OF_SOCKETS)?);

    // A descriptor of a thread (PIDFD_THREAD, which is O_EXCL) names one of the runner's by another number than 1.
    let thread = u64::from(libc::O_EXCL.cast_unsigned());
    rules.insert(
        libc::SYS_pidfd_open,
        vec![rule([int(0, Eq, 1)])?, rule([int(1, MaskedEq(thread), thread)])?],
    );

    // Asking for the current one is fine.
    rules.insert(libc::SYS_personality, vec![rule([int(0, Ne, 0xffff_ffff)])?]);
    Ok(rules)
}

/// A condition on an argument that the kernel takes as an int.
fn int(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

fn rule<const N: usize>(
    conditions: [Result<SeccompCondition, BackendError>; N],
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_and_fit_into_the_kernel_s_limit() {
        for program in filters(Pid::INIT, true).expect("the tables are valid") {
            assert!(program.len() < 4096, "{}", program.len());
        }
    }

    #[test]
    fn no_call_is_both_refused_and_conditional() {
        let conditional = conditional(Pid::INIT).expect("the tables are valid");
        for call in REFUSED.iter().chain(REFUSED_HERE).chain(UNMAPPED_MEMORY) {
            assert!(!conditional.contains_key(call), "{call}");
        }
    }
}
