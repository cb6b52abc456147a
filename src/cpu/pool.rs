//! Threads that share the tasks of a call.
//!
//! The calling thread and the threads of a pool take the tasks of a call one at a time. The calling thread takes only tasks of its own
//! call, and then sleeps until the others are done. It must run no other work, because it may hold locks that such work waits for.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// The default number of threads of a call: `RAYON_NUM_THREADS` if it is above 0, else one per core.
pub(super) fn default_threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| {
        let asked = std::env::var("RAYON_NUM_THREADS").ok();
        let asked = asked.and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        asked.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
    })
}

/// Calls `work` once for each of `0..tasks` on up to `threads` threads, including the calling one. Returns after all calls
/// have returned. Resumes a panic of `work` on the calling thread.
pub(super) fn share<F: Fn(usize) + Sync>(threads: usize, tasks: usize, work: &F) {
    let helpers = threads.min(tasks).saturating_sub(1);
    if helpers == 0 || cfg!(target_arch = "wasm32") {
        (0..tasks).for_each(work);
        return;
    }
    let job = Arc::new(Job {
        work: std::ptr::from_ref(work).cast(),
        call: call::<F>,
        tasks,
        next: AtomicUsize::new(0),
        done: Mutex::default(),
        all_done: Condvar::new(),
    });
    POOL.submit(&job, helpers);
    job.help();
    POOL.withdraw(&job);
    if let Some(panic) = job.wait() {
        resume_unwind(panic);
    }
}

/// The tasks of one call.
struct Job {
    /// The `&F` of [`share`] without its type and lifetime.
    work: *const (),
    /// [`call`] for that type.
    call: unsafe fn(*const (), usize),
    tasks: usize,
    /// The first task that no thread has taken.
    next: AtomicUsize,
    done: Mutex<Done>,
    all_done: Condvar,
}

#[derive(Default)]
struct Done {
    tasks: usize,
    panic: Option<Box<dyn Any + Send>>,
}

// SAFETY: `work` points to a `Sync` value and is used as `&F` only, see `Job::help`; all other fields are `Send` and `Sync`.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

/// # Safety
/// `work` must point to a live `F`.
unsafe fn call<F: Fn(usize) + Sync>(work: *const (), task: usize) {
    // SAFETY: as the caller promises.
    let work = unsafe { &*work.cast::<F>() };
    work(task);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave the contents of these mutexes half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    /// Takes and runs tasks until all are taken.
    fn help(&self) {
        let (mut tasks, mut panic) = (0, None);
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.tasks {
                break;
            }
            // SAFETY: this task is taken and not yet counted in `done`, so `share` has not returned from `wait`, and `work` is alive.
            let call = || unsafe { (self.call)(self.work, task) };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
                panic = Some(payload);
            }
            tasks += 1;
        }
        if tasks == 0 {
            return;
        }
        let mut done = lock(&self.done);
        done.tasks += tasks;
        done.panic = done.panic.take().or(panic);
        if done.tasks == self.tasks {
            self.all_done.notify_all();
        }
    }

    /// Sleeps until all tasks are done. Returns the panic of one, if any.
    fn wait(&self) -> Option<Box<dyn Any + Send>> {
        let mut done = lock(&self.done);
        while done.tasks < self.tasks {
            done = self
                .all_done
                .wait(done)
                .unwrap_or_else(PoisonError::into_inner);
        }
        done.panic.take()
    }
}

/// Threads that sleep until there is a job. The pool starts them as calls need them. They end with the process.
struct Pool {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    /// The process that started the threads: a fork copies their number but none of them.
    process: u32,
    /// One entry for each helper that a job still needs.
    jobs: VecDeque<Arc<Job>>,
    threads: usize,
}

static POOL: Pool = Pool {
    state: Mutex::new(State {
        process: 0,
        jobs: VecDeque::new(),
        threads: 0,
    }),
    wake: Condvar::new(),
};

impl Pool {
    fn submit(&'static self, job: &Arc<Job>, helpers: usize) {
        let mut state = lock(&self.state);
        let process = std::process::id();
        if state.process != process {
            *state = State {
                process,
                jobs: VecDeque::new(),
                threads: 0,
            };
        }
        while state.threads < helpers {
            let thread = thread::Builder::new().name("wgpu-distill".to_owned());
            if thread.spawn(|| self.work()).is_err() {
                // The system cannot start more threads. The existing ones, at least the calling thread, do the work.
                break;
            }
            state.threads += 1;
        }
        let helpers = helpers.min(state.threads);
        state.jobs.extend((0..helpers).map(|_| Arc::clone(job)));
        drop(state);
        for _ in 0..helpers {
            self.wake.notify_one();
        }
    }

    /// Removes the entries of a job whose tasks are all taken.
    fn withdraw(&self, job: &Arc<Job>) {
        lock(&self.state)
            .jobs
            .retain(|other| !Arc::ptr_eq(job, other));
    }

    /// The main loop of a pool thread.
    fn work(&self) {
        loop {
            let mut state = lock(&self.state);
            let job = loop {
                match state.jobs.pop_front() {
                    Some(job) => break job,
                    None => {
                        state = self
                            .wake
                            .wait(state)
                            .unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            job.help();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once() {
        for (threads, tasks) in [(1, 5), (4, 0), (4, 1), (4, 2), (3, 1000), (9, 7)] {
            let done: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            share(threads, tasks, &|i| {
                done[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                done.iter().all(|n| n.load(Ordering::Relaxed) == 1),
                "{threads}, {tasks}"
            );
        }
    }

    #[test]
    fn calls_on_several_threads_at_once_return() {
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for tasks in 0..200 {
                        let sum = AtomicUsize::new(0);
                        share(4, tasks, &|i| {
                            sum.fetch_add(i + 1, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), tasks * (tasks + 1) / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_goes_on_in_the_calling_thread_after_all_tasks() {
        let done = AtomicUsize::new(0);
        let call = || {
            share(4, 100, &|i| {
                done.fetch_add(1, Ordering::Relaxed);
                assert_ne!(i, 40, "the task that panics");
            });
        };
        let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("a task panics");
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.contains("the task that panics"), "{message}");
        assert_eq!(done.into_inner(), 100);
        // The pool still works.
        share(4, 3, &|_| {});
    }
}
