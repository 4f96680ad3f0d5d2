// etcd itself, built from a module of our own: etcd's has replace directives, and so cannot be installed by its path.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
