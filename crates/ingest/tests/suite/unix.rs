//! Both servers over unix sockets.

use std::path::Path;

use ingest::{Address, Listener};
use tonic::Code;

use crate::raw_grpc::{export, frame};
use crate::raw_http::{PROTOBUF, post};
use crate::requests;
use crate::world::{Options, World};

fn at(folder: &Path, name: &str) -> String {
    format!("unix:{}", folder.join(name).display())
}

#[tokio::test]
async fn both_servers_serve_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (grpc, http) = (at(folder.path(), "grpc.sock"), at(folder.path(), "http.sock"));
    let addresses = Some((grpc.clone(), http.clone()));
    let world = World::with(Options { addresses, ..Options::default() }).await;
    assert_eq!((world.grpc.to_string(), world.http.to_string()), (grpc, http));
    assert_eq!(export(&world.grpc, &[], frame(false, &requests::spans(2))).await.code(), Code::Ok);
    assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, &requests::spans(3)).await.status, 200);
    assert_eq!(world.log.spans(), 5);
    world.stop().await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the files are gone");
}

#[tokio::test]
async fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let address = at(folder.path(), "a.sock");
    // As a process leaves it that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let live = Listener::bind(&address).await.unwrap();
    assert_eq!(live.address().unwrap(), Address::Unix(path.clone()));
    let error = Listener::bind(&address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(live);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let error = Listener::bind(&at(folder.path(), "precious")).await.unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    assert!(Listener::bind("unix:").await.is_err());
}

#[tokio::test]
async fn a_socket_that_another_put_in_its_place_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let ours = Listener::bind(&at(folder.path(), "a.sock")).await.unwrap();
    // Bound elsewhere first, so that it cannot get the number of the file that goes.
    let theirs = std::os::unix::net::UnixListener::bind(folder.path().join("b.sock")).unwrap();
    std::fs::rename(folder.path().join("b.sock"), &path).unwrap();
    drop(ours);
    assert!(path.exists());
    drop(theirs);
}
