//! Every word that programs and people look up: the reasons of conditions and of Events. docs/runbook.md has an entry for
//! each, and a test compares.

/// An enum whose variants are listed and written as they are called.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $($variant:ident),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => stringify!($variant)),+ }
            }
        }
    };
}

words! {
    /// Why a condition is as it is; one may be of several conditions.
    Reason:
    AllReady,
    Answers,
    ApplyFailed,
    Contested,
    Creating,
    Degraded,
    Delivering,
    Delivers,
    Disabled,
    ExternalRedisRefuses,
    ExternalRedisUnreachable,
    ExternalRedisUnsuitable,
    ForeignAutoscaler,
    ForeignMetricsApi,
    GatewaysEnding,
    GatewaysLearn,
    Impaired,
    InvalidSpec,
    KedaMissing,
    KedaNotReady,
    MetricUnavailable,
    MetricsApiUnavailable,
    MovingClients,
    MovingSlots,
    NoAnswer,
    NoGateway,
    NoneEnding,
    NotHeard,
    NotReady,
    NotRegistered,
    NotRotating,
    OneNamespace,
    Paused,
    Ready,
    RedisLearns,
    RefusedByGateway,
    Registered,
    Resting,
    RolledBack,
    RollingOut,
    Running,
    ScaledToZero,
    Scaling,
    ShardWithoutMaster,
    Silent,
    UpToDate,
    Valid,
    WaitsForConsent,
    WaitsForRollout,
    WaitsForRoom,
}

words! {
    /// What an Event tells of.
    Told:
    Autoscaled,
    ClientsCut,
    Created,
    Forbidden,
    GatewayDrains,
    GatewayReadmitted,
    GatewaysReplaced,
    OtherGatewayEnded,
    Pruned,
    Rebalanced,
    RedisArranged,
    RedisPasswordChanged,
    RedisPasswordChanging,
    RedisReplaced,
    Restored,
    RolledBack,
    Scaled,
    Updated,
}
