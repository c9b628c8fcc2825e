// Command ask is the only program in the images of tests about cages that stay:
// it asks hosts for a page over plain HTTP, and prints what each one answered.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	wait := flag.Duration("wait", 0, "time to wait before each host after the first")
	count := flag.Int("count", 1, "ask so many hosts, %d of whose names is their number")
	at := flag.Int("at", 1, "so many at a time")
	done := flag.String("done", "", "`FILE` to leave behind")
	fill := flag.Int64("fill", 0, "so many random bytes in that")
	flag.Parse()
	var names []string
	for _, name := range flag.Args() {
		for i := range *count {
			names = append(names, strings.ReplaceAll(name, "%d", fmt.Sprint(i)))
		}
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
	}}
	var all sync.WaitGroup
	slots := make(chan struct{}, *at)
	for i, name := range names {
		if i > 0 {
			<-time.After(*wait)
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			answer := ask(client, name)
			if *count == 1 {
				fmt.Fprintf(os.Stdout, "%s: %s\n", name, answer)
			}
		})
	}
	all.Wait()
	if *done != "" {
		if err := leave(*done, *fill); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func leave(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	return errors.Join(err, f.Close())
}

func ask(client *http.Client, name string) string {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+name+"/", nil)
	if err != nil {
		return err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Status
}
