//! Each job in a process of its own: its memory is its own, and what kills it does not kill the others.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child as Process, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use super::{Finished, Job, Machine, Set, Stop};
use crate::{
    base::read_json,
    error::{Error, Result},
    run,
    status::is_stopped,
};

/// The recipe as the training reads it, in the job's folder.
const RECIPE_FILE: &str = "recipe.toml";
/// The training's own folder in the job's folder.
const RUN_FOLDER: &str = "run";
/// What the processes printed.
const PRINTED_FILE: &str = "printed.txt";

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// In its environment: the process that it must not outlive.
const PARENT: &str = "SPOTTER_TRAINER_ENDS_WITH";

/// Carries out jobs by `spotter-trainer`.
#[derive(Clone, Debug)]
pub struct Child {
    program: PathBuf,
    machine: Machine,
    stop: Stop,
}

/// Where an ablation started this process: sees that the system ends it when the ablation ends, however that
/// comes. It would hold the run's folder and the machine for hours otherwise.
///
/// # Errors
/// Where the ablation has ended already, or the system refuses.
pub fn end_with_parent() -> Result<()> {
    let Some(parent) = std::env::var_os(PARENT) else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| spotter_models::Error::internal("parent's end", error))?;
    // Whoever ended before that call sends nothing any more.
    let now = getppid().map_or(0, Pid::as_raw_pid);
    match parent.to_str().and_then(|parent| parent.parse().ok()) == Some(now) {
        true => Ok(()),
        false => Err(Error::invalid(PARENT, "names no parent of this process; unset it")),
    }
}

/// How a process ended.
#[derive(PartialEq)]
enum Ended {
    /// It did all it had to do.
    Done,
    /// It was asked to stop.
    Stopped,
}

impl Child {
    /// Jobs by this program, which is `spotter-trainer`, on this machine; `stop` is passed on to it.
    pub fn new(program: PathBuf, machine: Machine, stop: Stop) -> Self {
        Self { program, machine, stop }
    }

    /// Trains and judges a job in its folder; `None` where it was stopped. A training that was stopped
    /// before goes on.
    ///
    /// # Errors
    /// Where a process cannot be started or fails; the message ends with what it printed last.
    pub fn carry_out(&self, job: &Job, folder: &Path) -> Result<Option<Finished>> {
        let (run, recipe) = (folder.join(RUN_FOLDER), folder.join(RECIPE_FILE));
        let text = job.recipe.to_text()?;
        std::fs::write(&recipe, text).map_err(spotter_models::Error::io(&recipe))?;
        let mut command = self.command(folder)?;
        command.arg("train").arg(&recipe).arg("--out").arg(&run).arg("--data").arg(&job.data);
        if let Some(base) = &job.base {
            command.arg("--base").arg(base);
        }
        if let Some(minutes) = job.minutes {
            command.arg("--minutes").arg(minutes.to_string());
        }
        command.args(self.machine.options());
        if self.wait(&mut command, folder)? == Ended::Stopped {
            return Ok(None);
        }
        let ended: run::Ended = read_json(&run.join(run::RESULT))?;
        let mut reports = Vec::new();
        for (number, set) in (1..).zip(&job.sets) {
            let report = folder.join(format!("set-{number}.json"));
            let mut command = self.command(folder)?;
            command.stdout(fs::File::create(&report).map_err(spotter_models::Error::io(&report))?);
            if self.wait(evaluate(&mut command, &run, set), folder)? == Ended::Stopped {
                return Ok(None);
            }
            reports.push(read_json(&report)?);
        }
        Ok(Some(Finished {
            trained_parameters: ended.trained as u64,
            minutes: ended.seconds / 60.0,
            steps: ended.steps,
            out_of_time: ended.out_of_time,
            peak_memory_mib: ended.peak_memory_mib,
            reports,
        }))
    }

    /// A command whose output goes into the job's folder.
    fn command(&self, folder: &Path) -> Result<Command> {
        use std::os::unix::process::CommandExt as _;
        let path = folder.join(PRINTED_FILE);
        let io = |error| Error::from(spotter_models::Error::io(&path)(error));
        let open = || fs::OpenOptions::new().create(true).append(true).open(&path);
        let mut command = Command::new(&self.program);
        command
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(open().map_err(io)?)
            .stderr(open().map_err(io)?)
            // Out of the terminal's group, so that Ctrl-C reaches it once, through `stop`.
            .process_group(0);
        Ok(command)
    }

    /// Runs a command to its end. Each time somebody asks to stop, it is interrupted once.
    fn wait(&self, command: &mut Command, folder: &Path) -> Result<Ended> {
        let io = |error| Error::from(spotter_models::Error::io(&self.program)(error));
        let mut asked = 0;
        let mut process = command.spawn().map_err(io)?;
        loop {
            if let Some(status) = process.try_wait().map_err(io)? {
                if asked > 0 || status.code().is_some_and(is_stopped) {
                    return Ok(Ended::Stopped);
                }
                if status.success() {
                    return Ok(Ended::Done);
                }
                let last = last_printed(&folder.join(PRINTED_FILE));
                let reason = format!("{status}; it printed last: {last}");
                return Err(Error::invalid("training process", reason));
            }
            if self.stop.asked() > asked {
                asked += 1;
                interrupt(&process);
            }
            #[expect(clippy::disallowed_methods, reason = "waits for another process")]
            std::thread::sleep(LOOK);
        }
    }
}

impl Machine {
    /// As options of `train`.
    fn options(&self) -> Vec<String> {
        let number = |value: Option<usize>| value.map(|value| value.to_string());
        let all = [
            ("--device", self.device.clone()),
            ("--threads", number(self.threads)),
            ("--workers", number(self.workers)),
            ("--cache-mib", number(self.cache_mib)),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
        given.flatten().collect()
    }
}

fn evaluate<'a>(command: &'a mut Command, run: &Path, set: &Set) -> &'a mut Command {
    // Debug names of a split are those of the command line but for their case.
    let split = format!("{:?}", set.split).to_lowercase();
    command.arg("evaluate").arg("--run").arg(run).arg("--json").arg("--data").arg(&set.data);
    command.args(["--split", &split]);
    if set.distinct {
        command.arg("--distinct");
    }
    if let Some(ids) = &set.ids {
        command.args(["--ids", &ids.to_string()]);
    }
    command
}

fn interrupt(process: &Process) {
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
        // An error says that it ended just now, which is what is wanted.
        let _ = kill_process(pid, Signal::INT);
    }
}

/// The last line that a process printed, for a message.
fn last_printed(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        use std::io::{Seek as _, SeekFrom};
        let mut file = file;
        // A training prints a lot; its end is enough. A shorter file cannot be entered so far from
        // its end and is read from its beginning.
        let _ = file.seek(SeekFrom::End(-4096));
        let _ = file.take(4096).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("nothing").chars().filter(|c| !c.is_control()).take(400).collect()
}
