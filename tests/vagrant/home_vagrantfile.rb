# The Vagrantfile of VAGRANT_HOME in tests: says which machines the project's own one makes, and
# stands in for the plugin vagrant-qemu, which Debian does not have.
#
# The stand-in's options are the plugin's, by name. One that it does not have ends in an error, as
# with the plugin itself. Its machines are never there.

require "json"

module StandIn
  class Provider < Vagrant.plugin("2", :provider)
    def state
      Vagrant::MachineState.new(:not_created, "not created", "")
    end
  end

  class Config < Vagrant.plugin("2", :config)
    OPTIONS = %i[ssh_host ssh_port ssh_auto_correct arch machine cpu smp accel memory net_device
                 drive_interface image_path qemu_bin qemu_dir extra_qemu_args extra_netdev_args
                 extra_drive_args control_port debug_port no_daemonize firmware_format other_default
                 extra_image_opts]
    attr_accessor(*OPTIONS)
  end

  class Plugin < Vagrant.plugin("2")
    name "stand-in for vagrant-qemu"
    provider(:qemu, box_format: "libvirt", parallel: true) { Provider }
    config(:qemu, :provider) { Config }
  end

  # `vagrant machines PROVIDER ...`: what each would make, as JSON.
  class Machines < Vagrant.plugin("2", :command)
    def execute
      puts @argv.to_h { |provider| [provider, made_by(provider.to_sym)] }.to_json
      0
    end

    def made_by(provider)
      @env.machine_names.to_h { |name| [name, tell(@env.machine(name, provider))] }
    end

    def tell(machine)
      config = machine.config.vm
      {
        errors: machine.config.validate(machine).values.flatten,
        box: config.box,
        hostname: config.hostname,
        networks: config.networks,
        folders: config.synced_folders.reject { |_, options| options[:disabled] }.keys,
        provisioners: config.provisioners.map { |each| provisioner(each) },
        options: options(machine.provider_config),
      }
    end

    def options(config)
      config.instance_variables.to_h do |name|
        [name.to_s.delete("@"), config.instance_variable_get(name).inspect]
      end
    end

    def provisioner(each)
      told = { name: each.name, type: each.type, run: each.run }
      if each.type.to_s.start_with?("ansible")
        told.merge!(groups: each.config.groups, host_vars: each.config.host_vars,
                    extra_vars: each.config.extra_vars, playbook: each.config.playbook)
      end
      told
    end
  end

  class Listing < Vagrant.plugin("2")
    name "machines"
    command("machines") { Machines }
  end
end
