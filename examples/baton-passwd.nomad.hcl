# nomad job run examples/baton-passwd.nomad.hcl
# Checked against the types of Nomad's API (nomad-api-types 1.0.0), but not run.
job "baton-passwd" {
  group "connector" {
    network {
      port "health" {
        to = 8081
      }
    }

    # HTTP checks, since a Consul script check takes the probe's exit code 1 for a warning, not for a failure.
    service {
      name     = "baton-passwd"
      provider = "nomad"
      port     = "health"

      check {
        name     = "live"
        type     = "http"
        path     = "/live"
        interval = "10s"
        timeout  = "2s"

        # Only liveness restarts: an upstream that is down does not come back because we did.
        check_restart {
          limit = 3
          grace = "30s"
        }
      }

      check {
        name     = "ready"
        type     = "http"
        path     = "/ready"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "baton-passwd" {
      driver       = "docker"
      user         = "65532:65532"
      kill_timeout = "10s"

      config {
        image           = "registry.example.com/baton-passwd:0.1.0"
        args            = ["--health-check", "--health-check-bind-address=0.0.0.0"]
        ports           = ["health"]
        readonly_rootfs = true
        cap_drop        = ["all"]

        # The directory, not the two files: useradd replaces a file, and a mount of the file would keep showing the old one.
        mount {
          type     = "bind"
          source   = "/etc"
          target   = "/host"
          readonly = true
        }
      }

      env {
        BATON_PASSWD = "/host/passwd"
        BATON_GROUP  = "/host/group"
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
