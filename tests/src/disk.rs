//! A small disk of its own for a test: a file with a file system, mounted.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A mounted file system; it is taken away when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Of so many MiB. The error says why this machine cannot: no right to mount, no loop device, no `mkfs.ext4`.
    pub fn new(mib: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("longpole-disk-").tempdir()?;
        let image = folder.path().join("image");
        File::create(&image)?.set_len(mib << 20)?;
        let disk = Self { folder };
        std::fs::create_dir(disk.path())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()))?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn foreign(&self) -> PathBuf {
        self.path().join("foreign")
    }

    /// Somebody else's file takes so many MiB.
    pub fn take(&self, mib: u64) -> Result<()> {
        run(Command::new("fallocate").arg("-l").arg(format!("{mib}MiB")).arg(self.foreign()))
    }

    /// Somebody else's file takes all that is left, to the last byte.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.foreign())?;
        let block = vec![7_u8; 64 << 10];
        for size in [block.len(), 4096, 1] {
            while file.write_all(&block[..size]).and_then(|()| file.flush()).is_ok() {}
        }
        // Blocks may be given out when they reach the disk only.
        let _ = file.sync_all();
        Ok(())
    }

    /// That file goes.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.foreign())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mounted = self.path();
        // Lazily if somebody still has a file open there.
        let _ = run(Command::new("umount").arg(&mounted))
            .or_else(|_| run(Command::new("umount").arg("-l").arg(&mounted)));
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
