//! `operator` reconciles PushClusters; `operator crds` prints their definition.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::admin::{self, Admin, Gates};
use daemon::logs;
use daemon::signals::Shutdown;
use kube::{Api, Client, Config};
use operator::clients;
use operator::controller::Operator;
use operator::lease::Leadership;
use operator::metrics::Metrics;
use operator::metrics_api::Place;
use operator::metrics_api::registration::Registration;
use operator::metrics_api::served::Served;
use operator::push_cluster::{Images, admin_url};
use prometheus::Registry;
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(version = daemon::version(), about = "Runs PushClusters on Kubernetes")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Print the custom resource definition as YAML.
    Crds,
}

#[derive(Args)]
struct Run {
    /// Only this namespace. Default: all.
    #[arg(long, env, default_value = "")]
    watch_namespace: String,
    /// The gateway of a PushCluster that names none.
    #[arg(long, env, default_value = "pushcluster/gateway:dev")]
    gateway_image: String,
    /// The Redis of a PushCluster that names none.
    #[arg(long, env, default_value = "redis:7.2")]
    redis_image: String,
    /// This pod's name: who holds the lease. Default: one of its own for each start.
    #[arg(long, env, default_value_t = unique_name())]
    pod_name: String,
    /// This pod's namespace: where the lease is, and whom NetworkPolicies let in.
    #[arg(long, env, default_value = "default")]
    pod_namespace: String,
    /// Where /live, /ready, /metrics and /clients are served.
    #[arg(long, env, default_value = "0.0.0.0:9090")]
    admin_listen: String,
    /// The same for others in the cluster, as in http://operator.system.svc:9090. Default: a Service pushcluster-operator in
    /// this pod's namespace.
    #[arg(long, env, default_value = "")]
    admin_url: String,
    #[command(flatten)]
    metrics_api: MetricsApi,
    #[arg(long, env, default_value = "info")]
    log_filter: String,
    #[arg(long, env, default_value = "text")]
    log_format: LogFormat,
}

/// Where custom.metrics.k8s.io is served; the chart says it.
#[derive(Args)]
struct MetricsApi {
    /// Address and port. Empty: it is not served.
    #[arg(long, env, default_value = "")]
    metrics_api_listen: String,
    /// The Service in front of it, in this pod's namespace.
    #[arg(long, env, default_value = "pushcluster-operator-metrics-api")]
    metrics_api_service: String,
    /// The ClusterRole with which the registration goes.
    #[arg(long, env, default_value = "pushcluster-operator-metrics-api")]
    metrics_api_owner: String,
    /// Labels of the operator's pods.
    #[arg(
        long,
        env,
        default_value = "app.kubernetes.io/name=pushcluster-operator"
    )]
    metrics_api_selector: String,
}

impl Run {
    /// `Err`: it is not served, and what is said of it.
    fn metrics_api(&self) -> Result<Place, Registration> {
        let of = &self.metrics_api;
        if !self.watch_namespace.is_empty() {
            return Err(Registration::OneNamespace);
        }
        if of.metrics_api_listen.is_empty() {
            return Err(Registration::Disabled);
        }
        Ok(Place {
            listen: of.metrics_api_listen.clone(),
            service: of.metrics_api_service.clone(),
            namespace: self.pod_namespace.clone(),
            owner: of.metrics_api_owner.clone(),
            selector: of.metrics_api_selector.clone(),
            pod: self.pod_name.clone(),
        })
    }
}

/// Two operators of the same name would both lead.
fn unique_name() -> String {
    format!("operator-{:016x}", rand::random::<u64>())
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Crds) => {
            use std::io::Write;
            std::io::stdout()
                .write_all(crds::definition_yaml().as_bytes())
                .context("writing the definition failed")
        }
        None => run(arguments.run).await,
    }
}

async fn run(run: Run) -> Result<()> {
    let format = match run.log_format {
        LogFormat::Text => logs::Format::Text,
        LogFormat::Json => logs::Format::Json,
    };
    logs::init(&run.log_filter, format)?;
    let shutdown = Shutdown::on_signals()?;
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::register(&registry)?);
    let config = Config::infer()
        .await
        .context("finding the API server failed: neither a pod's token nor a kubeconfig")?;
    let client = Client::try_from(config).context("the kubeconfig cannot be used")?;

    let metrics_api = Served::start(&client, run.metrics_api()).await?;
    let serving = Arc::new(AtomicBool::new(false));
    let ready = Gates::default()
        .with("lease", {
            let serving = serving.clone();
            move || match serving.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("the API server has not answered yet".into()),
            }
        })
        .with_note("metricsApi", metrics_api.gate());
    let served = serve_admin(&run, &client, registry, ready).await?;
    let lead = lead(
        &run,
        client,
        (&metrics, &metrics_api),
        &serving,
        shutdown.clone(),
    );
    let result = lead.await;
    if result.is_ok() {
        metrics_api.leave().await;
    }
    served.abort();
    result
}

/// The admin port, for as long as the process lives.
async fn serve_admin(
    run: &Run,
    client: &Client,
    registry: Registry,
    ready: Gates,
) -> Result<tokio::task::JoinHandle<()>> {
    let listener = TcpListener::bind(&run.admin_listen)
        .await
        .with_context(|| format!("ADMIN_LISTEN {}: listening failed", run.admin_listen))?;
    let router = admin::router(Admin {
        live: Gates::default(),
        ready,
        metrics: registry,
    })
    .merge(clients::router(client.clone(), run.watch_namespace.clone()));
    Ok(tokio::spawn(async move {
        if let Err(error) = admin::serve(listener, router, Shutdown::default()).await {
            tracing::error!(%error, "the admin port failed");
        }
    }))
}

/// Waits for the lease, reconciles while it is ours, and gives it back.
async fn lead(
    run: &Run,
    client: Client,
    (metrics, metrics_api): (&Arc<Metrics>, &Served),
    serving: &AtomicBool,
    shutdown: Shutdown,
) -> Result<()> {
    let leases = Api::namespaced(client.clone(), &run.pod_namespace);
    let mut leadership = Leadership::new(leases, "pushcluster-operator", &run.pod_name);
    tokio::select! {
        () = leadership.acquire(serving) => {}
        reason = shutdown.begun() => {
            tracing::info!("{reason} before leading");
            return Ok(());
        }
    }
    tracing::info!(pod = run.pod_name, "leading");
    metrics.leading(true);
    let operator = Operator {
        client,
        images: Images {
            gateway: run.gateway_image.clone(),
            redis: run.redis_image.clone(),
            operator_namespace: run.pod_namespace.clone(),
            admin_url: match run.admin_url.as_str() {
                "" => admin_url(&run.pod_namespace),
                url => url.into(),
            },
        },
        metrics: metrics.clone(),
        namespace: run.watch_namespace.clone(),
        instance: run.pod_name.clone(),
        registration: metrics_api.registration(),
    };
    let registering = metrics_api.register(shutdown.clone());
    let ended = shutdown.clone();
    let mut reconciling = tokio::spawn(operator.run(async move {
        ended.begun().await;
    }));
    tokio::select! {
        // Ends when the shutdown has begun and the reconciles under way are done.
        result = &mut reconciling => result.context("the controller panicked")?,
        () = leadership.hold() => {
            // Another may lead from now on: what is under way here must not be finished.
            anyhow::bail!("the lease is lost: ending, to begin anew as one who waits");
        }
    }
    registering.await.context("the registrar panicked")?;
    metrics.leading(false);
    leadership.release().await;
    tracing::info!("ended");
    Ok(())
}
