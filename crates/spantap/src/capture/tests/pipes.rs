//! Pipes, and files that are read more than once.

use std::sync::mpsc;
use std::thread;

use super::*;

/// A named pipe.
fn pipe(folder: &Folder) -> PathBuf {
    let path = folder.0.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path
}

/// Opens a capture on another thread, which hangs if opening does.
fn open_in_time(path: &Path) -> anyhow::Result<Capture> {
    let (send, received) = mpsc::channel();
    let path = path.to_owned();
    thread::spawn(move || _ = send.send(Capture::open(&path)).is_ok());
    received.recv_timeout(Duration::from_secs(20)).expect("it does not hang")
}

#[test]
fn a_pipe_without_a_writer_is_an_error() {
    let folder = Folder::new();
    let error = format!("{:#}", open_in_time(&pipe(&folder)).map(drop).unwrap_err());
    assert!(error.contains("it is a pipe that no program writes to"), "{error}");
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let folder = Folder::new();
    let path = pipe(&folder);
    // More than a pipe holds, and slowly.
    let frames: Vec<_> = (1..=1_000).map(frame).collect();
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        frames.iter().for_each(|frame| (&file).write_all(frame).unwrap());
    });
    let mut capture = open_in_time(&path).unwrap();
    writer.join().unwrap();
    assert_eq!((ids(&mut capture).len(), capture.damage().is_none()), (2_000, true));
}

#[test]
fn several_passes_read_the_same_file_although_it_is_renamed() {
    let folder = Folder::new();
    let lines = format!("{}\n{}\n", collector::line(1), collector::line(2)).into_bytes();
    let messages = [1, 2].map(|of| collector::message(&collector::protobuf(of))).concat();
    for content in [[frame(1), frame(2)].concat(), lines, messages] {
        let path = folder.write(&content);
        let file = open(&path).unwrap();
        fs::rename(&path, folder.0.path().join("older")).unwrap();
        let mut passes = [0; 2].map(|_| Capture::from_file(&path, file.try_clone().unwrap()).unwrap());
        // At once, and one after the other.
        let [one, other] = &mut passes;
        assert!(one.next().is_some() && other.next().is_some());
        for mut capture in passes {
            assert_eq!(ids(&mut capture).last(), Some(&5));
        }
        let mut again = Capture::from_file(&path, file).unwrap();
        assert_eq!(ids(&mut again), [2, 3, 4, 5]);
    }
}
