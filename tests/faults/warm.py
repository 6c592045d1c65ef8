"""Imported by the server that test processes are forked from: what every client reads from files is read once."""

from lifecycle.demo.servers import S3Server

S3Server("http://127.0.0.1:9").client()
