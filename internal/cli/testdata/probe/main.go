// Command probe is what the steps of the engine tests run.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	switch os.Args[1] {
	case "dial": // whatever comes of it
		conn, err := net.DialTimeout("tcp", os.Args[2], 10*time.Second)
		if err == nil {
			_, _ = conn.Write([]byte("hello\r\n\r\n"))
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, err = conn.Read(make([]byte, 1))
		}
		fmt.Println("dialled:", err)
	case "hear": // what the other side says first, whatever comes of it
		conn, err := net.DialTimeout("tcp", os.Args[2], 10*time.Second)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			_, err = conn.Read(make([]byte, 1))
		}
		fmt.Println("heard:", err)
	case "wait":
		fmt.Println("waiting")
		select {}
	case "fail":
		os.Exit(7)
	}
}
